/** The stable codes of a {@link KingletError}. */
export type ErrorCode =
  | "NO_SIMD"
  | "NO_WEBGPU"
  | "GPU_UNTRUSTED"
  | "DEVICE_LOST"
  | "OUT_OF_MEMORY"
  | "STORAGE_FULL"
  | "NOT_A_MODEL"
  | "CORRUPT_FILE"
  | "UNSUPPORTED_ARCHITECTURE"
  | "UNSUPPORTED_TYPE"
  | "BAD_TOKENIZER"
  | "BAD_TEMPLATE"
  | "BAD_ADAPTER"
  | "BAD_REQUEST"
  | "CONTEXT_EXCEEDED"
  | "DOWNLOAD_FAILED"
  | "INTEGRITY"
  | "NO_ANSWER"
  | "ABORTED"
  | "ENGINE_CRASHED"
  | "DISPOSED";

/** An error as it crosses from the worker: plain data. */
export interface ErrorData {
  code: ErrorCode;
  message: string;
  details?: Record<string, unknown>;
}

/** Every failure of the package: `code` is stable, `message` says what to do next. */
export class KingletError extends Error {
  override readonly name = "KingletError";
  readonly code: ErrorCode;
  /** Counts, statuses, option names: whatever the message mentions, as data. */
  readonly details: Record<string, unknown>;
  /** The answer so far, where a generation was cut short (ABORTED, DEVICE_LOST, ENGINE_CRASHED, DISPOSED). */
  text?: string;
  /** The ids of that answer. */
  ids?: number[];

  constructor(code: ErrorCode, message: string, details: Record<string, unknown> = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.details = details;
  }

  /** @internal */
  static from(data: ErrorData): KingletError {
    return new KingletError(data.code, data.message, data.details);
  }

  /** @internal */
  toData(): ErrorData {
    return { code: this.code, message: this.message, details: this.details };
  }
}

/** What the package or the crate threw on purpose, as data; `undefined` for anything else, which is a crash. */
export function errorData(e: unknown): ErrorData | undefined {
  if (e instanceof KingletError) return e.toData();
  const data = e as Partial<ErrorData> | null;
  return typeof data?.code === "string" && typeof data.message === "string" && !(e instanceof Error) ? (data as ErrorData) : undefined;
}

export function badRequest(option: string, problem: string): KingletError {
  return new KingletError("BAD_REQUEST", `${option} ${problem}`, { option });
}

/** A signal's reason as the error the package throws. */
export function aborted(signal?: AbortSignal): KingletError {
  return new KingletError("ABORTED", "aborted by the caller", {}, signal?.reason);
}
