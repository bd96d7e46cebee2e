// Where a stream is kept on disk: one file of the origin's private file system for each engine that needs one. The page
// names it, and holds a lock of that name: a file whose lock is free was left behind by a page that is gone.

import { namesIn, openFolder, openForWriting, removeFile, type SyncHandle } from "./store/opfs.js";

const FOLDER = "kinglet-spool";
const lockOf = (name: string) => `${FOLDER}/${name}`;

/** For the page: a new name, and how to get rid of the file, whose worker must have ended. */
export function reserve(): { name: string; remove(): Promise<void> } {
  const random = crypto.getRandomValues(new Uint8Array(12));
  const name = Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
  let release!: () => void;
  const held = new Promise<void>((resolve) => (release = resolve));
  // Without locks nothing is written either.
  locks()?.request(lockOf(name), () => held).catch(() => {});
  return {
    name,
    remove: () => remove(name).finally(release),
  };
}

/** For the worker. Rejects, or `undefined`, where the browser has no such files, or the page no right to them. */
export async function create(name: string): Promise<[FileSystemFileHandle, SyncHandle] | undefined> {
  const files = locks() && (await openFolder(FOLDER, true));
  const handle = files && (await openForWriting(files, name));
  return handle && [await files.getFileHandle(name), handle];
}

/** Removes what pages left that are gone. Whatever fails, it can wait for the next engine. */
export async function sweep(): Promise<void> {
  try {
    const files = await openFolder(FOLDER, false);
    for (const name of await namesIn(files)) {
      await locks()?.request(lockOf(name), { ifAvailable: true }, async (lock) => lock && removeFile(files, name));
    }
  } catch {
    // Mostly: there is no such folder.
  }
}

export async function remove(name: string): Promise<void> {
  await openFolder(FOLDER, false).then((files) => removeFile(files, name)).catch(() => {}); // or there never was a file
}

/** Undefined in pages without https, and in old browsers. */
function locks(): LockManager | undefined {
  return (navigator as { locks?: LockManager }).locks;
}
