// The Hugging Face Hub: where its files are, and what it says of them before they are downloaded.

export const HUB = "https://huggingface.co";

export interface HubFile {
  /** The Hub's own address, or a mirror's. */
  origin: string;
  repository: string;
  revision: string;
  path: string;
}

const encoded = (path: string) => path.split("/").map(encodeURIComponent).join("/");

export function hubUrl({ origin, repository, revision, path }: HubFile): string {
  return `${origin}/${repository}/resolve/${encodeURIComponent(revision)}/${encoded(path)}`;
}

/** `hf:owner/repository@revision/path`; "main" goes without saying. */
export function hubName({ repository, revision, path }: HubFile): string {
  return `hf:${repository}${revision === "main" ? "" : `@${revision}`}/${path}`;
}

/** Reads `owner/repository[@revision]/path`. */
export function parseHubName(text: string, origin: string): HubFile | undefined {
  const [, repository, revision = "main", path] = /^([^/@]+\/[^/@]+)(?:@([^/]+))?\/(.+)$/.exec(text) ?? [];
  return repository && path ? { origin, repository, revision: decodeURIComponent(revision), path } : undefined;
}

/** The Hub's own address of a file, in any of its forms. */
export function parseHubUrl(url: URL, origin: string): HubFile | undefined {
  if (url.origin !== origin || url.search) return undefined;
  const [, repository, revision, path] = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname) ?? [];
  return repository && revision && path ? { origin, repository, revision: decodeURIComponent(revision), path: decodeURIComponent(path) } : undefined;
}

/** The digest of a file in large file storage; nothing where the hub cannot be asked: the download will tell why. */
export async function hubDigest(file: HubFile, headers: Record<string, string> | undefined): Promise<string | undefined> {
  const { origin, repository, revision, path } = file;
  try {
    const response = await fetch(`${origin}/api/models/${repository}/paths-info/${encodeURIComponent(revision)}`, {
      method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify({ paths: [path] }), signal: AbortSignal.timeout(20_000),
    });
    const [found] = (await response.json()) as { path: string; lfs?: { oid: string } }[];
    return /[0-9a-f]{64}$/.exec(found?.path === path ? (found.lfs?.oid ?? "") : "")?.[0];
  } catch {
    return undefined;
  }
}
