/** `warder key`: the keys that seal secrets and sign tokens. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Answer, Api } from '../api.ts';
import { type JsonOption, leaf, present, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { failed, usage } from '../failure.ts';
import type { Fields } from '../fields.ts';
import * as noun from '../noun.ts';
import { progressOn, type Screen, shownCount } from '../screen.ts';

const encryptionKeys: noun.Cell[] = [
  noun.plain('NUMBER', 'number'),
  noun.plain('KEY SERVICE', 'kms'),
  ['STATE', (key, screen) => screen.status(key.text('state'))],
  ['SEALS', (key) => shownCount(key.number('boxes') ?? 0)],
  noun.time('CREATED', 'created_at'),
];

const signingKeys: noun.Cell[] = [
  noun.plain('ID', 'id'),
  noun.plain('PURPOSE', 'purpose'),
  noun.plain('ALGORITHM', 'algorithm'),
  ['STATE', (key, screen) => screen.status(key.text('state'))],
  noun.time('RETIRES', 'retire_at'),
  noun.time('CREATED', 'created_at'),
];

/** How many boxes wait to be moved to the current key. */
const boxesLeft = (keys: Fields): number =>
  keys
    .items('key_encryption_keys')
    .filter((key) => key.text('state') !== 'current')
    .reduce((sum, key) => sum + (key.number('boxes') ?? 0), 0);

const showKeys = (screen: Screen, keys: Fields): void => {
  const [kms, configured] = [keys.text('kms'), keys.text('configured_kms')];
  const left = boxesLeft(keys);
  screen.pairs([
    ['key service', kms],
    ['sealed', keys.flag('sealed') ? screen.paint('redBright', 'yes') : 'no'],
    ['why', keys.text('why')],
    ['to be moved', left === 0 ? '' : `${shownCount(left)} sealed under older keys`],
  ]);
  if (configured !== '' && configured !== kms) {
    screen.note(`The keys were migrated: set WARDER_KMS=${kms} before the next start (it is ${configured}).`);
  }
  screen.line();
  screen.line('Key-encryption keys');
  noun.showTable(screen, encryptionKeys, keys.items('key_encryption_keys'));
  screen.line();
  screen.line('Signing keys');
  noun.showTable(screen, signingKeys, keys.items('signing_keys'));
};

const pollMs = 500;
/** The broker moves what it can within seconds: what stays for so long is something that does not open. */
const standstillMs = 60_000;

/**
 * Follows a rotation until nothing is left under an older key. @returns the keys then
 * @throws Failure 1 when it does not get on
 */
const followRotation = async (api: Api, context: Context): Promise<Answer> => {
  const progress = progressOn(context.stderr, context.now);
  let moved = { left: Number.POSITIVE_INFINITY, at: context.now() };
  try {
    for (;;) {
      const answer = await api.call('GET', 'keys');
      const left = boxesLeft(answer.fields);
      if (left === 0) return answer;
      if (left < moved.left) moved = { left, at: context.now() };
      if (context.now() - moved.at > standstillMs) {
        throw failed(`${shownCount(left)} stay under older keys; the broker’s log says why they do not open`);
      }
      progress.show(() => `${shownCount(left)} left under older keys`);
      await pause(pollMs);
    }
  } finally {
    progress.end();
  }
};

interface RotateOptions extends JsonOption {
  signing?: true;
  receipts?: true;
  wait?: true;
}

const rotateCommand = (group: Command, context: Context): void => {
  leaf(group, 'rotate', 'seal with a new key-encryption key; what is under older ones is moved in the background')
    .option('--wait', 'wait until nothing is left under an older key')
    .option('--signing', 'the key that signs JWTs instead; the old one stays published until its last token ends')
    .option('--receipts', 'the key that signs receipts instead; the old one stays published for good')
    .action(async (options: RotateOptions) => {
      if (options.signing && options.receipts) throw usage('--signing and --receipts: one at a time');
      if ((options.signing || options.receipts) && options.wait)
        throw usage('--wait is for key-encryption keys; --signing and --receipts have nothing to wait for');
      const { api, screen } = toolsFor(context);
      if (options.receipts) {
        present(screen, options, await api.call('POST', 'keys/receipts/rotate'), (rotation) => {
          screen.line(`Receipts are signed with ${rotation.text('to')} now.`);
          if (rotation.has('from'))
            screen.line(`${rotation.text('from')} stays published: what it signed is evidence.`);
        });
        return;
      }
      if (options.signing) {
        present(screen, options, await api.call('POST', 'keys/signing/rotate'), (rotation) => {
          screen.line(`Signing with ${rotation.text('to')} now.`);
          screen.line(`${rotation.text('from')} stays published until nothing it signed can be alive.`);
        });
        return;
      }
      const rotated = await api.call('POST', 'keys/rotate');
      if (options.wait) {
        const keys = await followRotation(api, context);
        present(screen, options, keys, () =>
          screen.line(`Sealing with key ${rotated.fields.text('number')} now; nothing is under an older one.`),
        );
        return;
      }
      present(screen, options, rotated, (key) => {
        screen.line(`Sealing with key ${key.text('number')} now.`);
        screen.line('What is under older keys is moved in the background: warder key list');
      });
    });
};

interface MigrateOptions extends JsonOption {
  to: string;
  dryRun?: true;
}

const migrateCommand = (group: Command, context: Context): void => {
  leaf(group, 'migrate', 'have the key-encryption keys wrapped by another key service, while Warder runs')
    .requiredOption('--to <service>', 'aws-kms:<key>, vault-transit:<mount>/<key> or local:<path>, as in WARDER_KMS')
    .option('--dry-run', 'wrap and open every key by it, and change nothing')
    .action(async ({ to, dryRun, ...options }: MigrateOptions) => {
      const { api, screen } = toolsFor(context);
      const body = { to, dry_run: dryRun === true };
      present(screen, options, await api.call('POST', 'keys/migrate', { body }), (migrated) => {
        const keys = migrated.text('keys');
        if (migrated.flag('dry_run')) {
          screen.line(`Dry run; nothing was changed. ${migrated.text('to')} wrapped and opened all keys (${keys}).`);
          return;
        }
        screen.line(`Migrated: ${migrated.text('to')} keeps all keys (${keys}) now.`);
        screen.line(
          `Set WARDER_KMS=${migrated.text('to')} before the next start; with the old value Warder starts sealed.`,
        );
      });
    });
};

/** Adds `key` and everything below it. */
export const keyCommands = (program: Command, context: Context): void => {
  const group = program.command('key').description('keys that seal secrets and sign tokens');

  leaf(group, 'list', 'list the keys; whether Warder is sealed; how far a rotation has come').action(
    async (options: JsonOption) => {
      const { api, screen } = toolsFor(context);
      present(screen, options, await api.call('GET', 'keys'), (keys) => showKeys(screen, keys));
    },
  );
  rotateCommand(group, context);
  migrateCommand(group, context);
};
