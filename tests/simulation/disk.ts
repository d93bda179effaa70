/** The disk as one simulated process sees it: each operation takes time, and none happens after its death. */
import type { Files } from "../../checkpoint/files.ts";
import type { SimulatedFiles } from "../checkpoint/simulated_files.ts";
import type { SimulatedProcess } from "./process.ts";

/** `disk` as `process` sees it. */
export function diskOf(process: SimulatedProcess, disk: SimulatedFiles): Files {
  const later = <T>(action: () => Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      process.clock.after(4 * process.world.random(), () => action().then(resolve, reject));
    });
  return {
    makeFolder: (path) => later(() => disk.makeFolder(path)),
    writeFile: (path, pieces) => later(() => disk.writeFile(path, pieces)),
    rename: (from, to) => later(() => disk.rename(from, to)),
    syncFolder: (path) => later(() => disk.syncFolder(path)),
    remove: (path) => later(() => disk.remove(path)),
    readFile: (path) => later(() => disk.readFile(path)),
    list: (path) => later(() => disk.list(path)),
  };
}
