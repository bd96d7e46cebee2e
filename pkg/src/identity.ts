// What tells a file from another one at the same address, as far as its server says.

export interface FileIdentity {
  etag: string | null;
  lastModified: string | null;
  size: number | undefined;
  /** The file and what it redirects to are of the page's own origin. */
  near: boolean;
  /** It is compressed on its way, and no byte of it can be asked for again. */
  encoded: boolean;
}

export const UNKNOWN: FileIdentity = { etag: null, lastModified: null, size: undefined, near: false, encoded: false };

/** Whether the server says anything of it that another file would not have. */
export function isTold({ etag, lastModified, encoded }: FileIdentity): boolean {
  return !encoded && (etag ?? lastModified) !== null;
}

/** Whether an answer with these is of another file. What is not known on both sides says nothing. */
export function isAnother(known: FileIdentity, now: Pick<FileIdentity, "etag" | "lastModified" | "size">): boolean {
  const differ = <T>(a: T | null | undefined, b: T | null | undefined) => a != null && b != null && a !== b;
  // Copies of one file on several servers may differ in their dates.
  const redated = !(known.etag && now.etag) && differ(known.lastModified, now.lastModified);
  return differ(known.etag, now.etag) || redated || differ(known.size, now.size);
}
