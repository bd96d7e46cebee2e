// The token of the endpoint: got when it is needed, kept until it is refused.

import { badRequest } from "../errors.js";
import { checkToken } from "./core.js";
import type { Cloud } from "./types.js";

export class Auth {
  #token: string | undefined;
  #refreshing: Promise<boolean> | undefined;

  constructor(private readonly cloud: Cloud | undefined) {
    const auth = cloud?.auth;
    if (auth !== undefined && typeof auth !== "string" && typeof auth !== "function") throw badRequest("cloud.auth", "must be a short-lived token, or a function that gets one");
    if (typeof auth === "string") this.#take(auth);
  }

  /** The headers that carry it. Throws what the caller's function throws, or where it gave no token that may be sent. */
  async headers(): Promise<Record<string, string>> {
    if (this.cloud?.auth === undefined) return {};
    if (this.#token === undefined) await this.#get(false);
    const { authHeader } = this.cloud;
    return authHeader ? { [authHeader]: this.#token! } : { authorization: `Bearer ${this.#token}` };
  }

  /** Whether there is another one than that which was refused. Several questions that were refused share one call. */
  refresh(): Promise<boolean> {
    return (this.#refreshing ??= this.#another().finally(() => (this.#refreshing = undefined)));
  }

  /** Somebody signed in. */
  changed(): void {
    if (typeof this.cloud?.auth === "function") this.#token = undefined;
  }

  async #another(): Promise<boolean> {
    const refused = this.#token;
    if (typeof this.cloud?.auth !== "function") return false;
    await this.#get(true);
    return this.#token !== refused;
  }

  async #get(refresh: boolean): Promise<void> {
    const { auth } = this.cloud!;
    this.#take(typeof auth === "function" ? await auth({ refresh }) : auth);
  }

  #take(token: unknown): void {
    if (typeof token !== "string" || token === "" || /[^\x21-\x7e]/.test(token)) throw badRequest("cloud.auth", "gave no token: a string of visible characters without spaces");
    checkToken(token);
    this.#token = token;
  }
}
