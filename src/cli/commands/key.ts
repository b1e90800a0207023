/** `warder key`: the keys that seal secrets and sign tokens. */
import type { Command } from 'commander';
import { type JsonOption, leaf, present, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { usage } from '../failure.ts';
import type { Fields } from '../fields.ts';
import * as noun from '../noun.ts';
import type { Screen } from '../screen.ts';

const encryptionKeys: noun.Cell[] = [
  noun.plain('NUMBER', 'number'),
  noun.plain('KEY SERVICE', 'kms'),
  ['STATE', (key, screen) => screen.status(key.text('state'))],
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

const showKeys = (screen: Screen, keys: Fields): void => {
  screen.pairs([
    ['key service', keys.text('kms')],
    ['sealed', keys.flag('sealed') ? screen.paint('redBright', 'yes') : 'no'],
    ['why', keys.text('why')],
  ]);
  screen.line();
  screen.line('Key-encryption keys');
  noun.showTable(screen, encryptionKeys, keys.items('key_encryption_keys'));
  screen.line();
  screen.line('Signing keys');
  noun.showTable(screen, signingKeys, keys.items('signing_keys'));
};

/** Adds `key` and everything below it. */
export const keyCommands = (program: Command, context: Context): void => {
  const group = program.command('key').description('keys that seal secrets and sign tokens');

  leaf(group, 'list', 'list the keys; whether Warder is sealed').action(async (options: JsonOption) => {
    const { api, screen } = toolsFor(context);
    present(screen, options, await api.call('GET', 'keys'), (keys) => showKeys(screen, keys));
  });

  leaf(group, 'rotate', 'change the key that signs JWTs; the old one stays published until its last token ends')
    .option('--signing', 'the signing key')
    .action(async (options: JsonOption & { signing?: true }) => {
      if (!options.signing) throw usage('say which key: --signing');
      const { api, screen } = toolsFor(context);
      present(screen, options, await api.call('POST', 'keys/signing/rotate'), (rotation) => {
        screen.line(`Signing with ${rotation.text('to')} now.`);
        screen.line(`${rotation.text('from')} stays published until nothing it signed can be alive.`);
      });
    });
};
