/** Which file of the operator's folder is run for a name: one that nobody but root and Warder's own user can have written. */
import { constants, type Stats } from 'node:fs';
import { access, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ProviderFailure } from '../../src/ports/provider.ts';

/** A plain file name: no path, no option, nothing hidden. */
export const scriptName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

const othersMayWrite = 0o022;
const sticky = 0o1000;

const isOurs = ({ uid }: Stats): boolean => uid === 0 || uid === process.getuid?.();

/** @returns what is wrong with a folder on the way to the file: whoever may write there could put another file in its place */
const folderProblem = async (folder: string): Promise<string | undefined> => {
  for (let at = folder; ; at = dirname(at)) {
    const found = await stat(at);
    if (!isOurs(found)) return 'a folder on the way to it belongs to somebody else';
    // In a sticky folder (/tmp) nobody renames what is not his; but he could have put it there first.
    const isOpen = (found.mode & othersMayWrite) !== 0;
    if (isOpen && (at === folder || (found.mode & sticky) === 0))
      return 'a folder on the way to it can be written by others';
    if (dirname(at) === at) return undefined;
  }
};

const problemOf = async (file: string): Promise<string | undefined> => {
  const found = await stat(file);
  if (!found.isFile()) return 'it is not a file';
  if (!isOurs(found)) return 'it belongs neither to root nor to the user Warder runs as';
  if ((found.mode & othersMayWrite) !== 0) return 'it can be written by its group or by others';
  try {
    await access(file, constants.X_OK);
  } catch {
    return 'it is not executable';
  }
  return folderProblem(dirname(file));
};

/**
 * @returns the path to run, free of symbolic links
 * @throws ProviderFailure `refused`
 */
export const scriptFile = async (folder: string | undefined, name: string): Promise<string> => {
  const refused = (why: string): ProviderFailure =>
    new ProviderFailure('refused', `the script ${name} is not run: ${why}`);
  if (folder === undefined) throw refused('this Warder runs no scripts (WARDER_ROTATE_SCRIPTS is not set)');
  if (!scriptName.test(name)) throw new ProviderFailure('refused', 'the name of the script is not a plain file name');
  let file: string;
  let problem: string | undefined;
  try {
    const real = await realpath(folder);
    file = await realpath(join(real, name));
    // A link inside the folder is how a ConfigMap of Kubernetes is laid out; one out of it is somebody's trick.
    problem = file.startsWith(`${real}/`) ? await problemOf(file) : 'it is a link that leads out of the folder';
  } catch {
    throw refused('there is none of this name in the folder of scripts');
  }
  if (problem !== undefined) throw refused(problem);
  return file;
};
