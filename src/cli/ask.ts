/** Asks the person at the terminal: yes or no, or for a secret that does not show. */
import { createInterface } from 'node:readline';
import type { Context, Input } from './context.ts';
import { usage } from './failure.ts';
import { printable } from './sanitise.ts';

type Terminal = Pick<Context, 'stdin' | 'stderr'>;

/** Whether there is a person to ask: questions go to standard error, since standard output may be a file. */
export const isInteractive = ({ stdin, stderr }: Terminal): boolean => stdin.isTTY === true && stderr.isTTY === true;

/** @returns whether the answer was y or yes; the end of the input is a no */
export const confirm = async ({ stdin, stderr }: Terminal, question: string): Promise<boolean> => {
  const lines = createInterface({ input: stdin });
  stderr.write(`${printable(question)} [y/N] `);
  try {
    return await new Promise<boolean>((resolve) => {
      lines.once('line', (answer) => resolve(/^\s*y(?:es)?\s*$/i.test(answer)));
      lines.once('close', () => resolve(false));
    });
  } finally {
    lines.close();
  }
};

/** Everything that comes before the end of the input, as UTF-8. */
export const readAllInput = async (stdin: Input, maxBytes: number): Promise<string> => {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stdin) {
    const buffer = Buffer.from(chunk);
    bytes += buffer.length;
    if (bytes > maxBytes) throw usage(`standard input is longer than ${maxBytes} bytes`);
    chunks.push(buffer);
  }
  return Buffer.concat(chunks).toString('utf8');
};

const enter = new Set(['\r', '\n', '\u0004']);
const interrupt = '\u0003';
const erase = new Set(['\b', '\u007f']);

/** One line from the terminal that is not shown while it is typed. */
export const readHidden = async ({ stdin, stderr }: Terminal, prompt: string): Promise<string> => {
  stderr.write(prompt);
  stdin.setRawMode?.(true);
  let typed = '';
  try {
    stdin.setEncoding('utf8');
    for await (const chunk of stdin) {
      for (const char of String(chunk)) {
        if (enter.has(char)) return typed;
        if (char === interrupt) throw usage('interrupted; nothing was sent');
        typed = erase.has(char) ? typed.slice(0, -1) : typed + char;
      }
    }
    return typed;
  } finally {
    stdin.setRawMode?.(false);
    stderr.write('\n');
  }
};
