/** `warder issuer`: whose tokens are believed, of workloads and of people agents act for. */
import type { Command } from 'commander';
import { segment } from '../api.ts';
import { type JsonOption, leaf, present, toolsFor } from '../command.ts';
import type { Context } from '../context.ts';
import { usage } from '../failure.ts';
import type { Fields } from '../fields.ts';
import { readJwks } from '../jwks-input.ts';
import * as noun from '../noun.ts';
import { shownDuration } from '../screen.ts';
import { type ClaimRules, collectClaim, collectNames, parseDuration } from '../values.ts';

interface IssuerOptions {
  issuer?: string;
  jwks?: string;
  jwksUri?: string;
  discovery?: true;
  allowPrivateNetwork?: boolean;
  audience?: string[];
  algorithm?: string[];
  use?: string[];
  subjectClaim?: string;
  claim?: ClaimRules;
  maxAge?: number;
  reusable?: true;
  singleUse?: true;
}

const withIssuerOptions = (command: Command): Command =>
  command
    .option('--jwks-uri <url>', 'where its keys are, unless its OpenID metadata says so')
    .option('--jwks <file>', 'its public keys (RFC 7517), where they cannot be fetched')
    .option('--allow-private-network', 'its address is a private one')
    .option(
      '--audience <text>',
      'who its tokens must be for (repeatable); the URL of the broker unless said',
      collectNames,
    )
    .option('--algorithm <name>', 'signature algorithms it may use (repeatable)', collectNames)
    .option(
      '--use <use>',
      'workload: its tokens prove agents; subject: agents act for whom they name (repeatable)',
      collectNames,
    )
    .option('--subject-claim <claim>', 'the claim that names the subject (default: sub)')
    .option('--claim <name=pattern>', 'what every token must say; again for another claim or value', collectClaim)
    .option('--max-age <duration>', 'how old a token may be (default: 1h)', parseDuration)
    .option('--reusable', 'a workload token may prove its agent more than once (Kubernetes)')
    .option('--single-use', 'a workload token proves its agent once');

/** The part of the body that adding and changing share; undefined fields are left out of JSON. */
const bodyOf = (options: IssuerOptions): Record<string, unknown> => {
  const { jwks, jwksUri, discovery, reusable, singleUse } = options;
  if ([jwks, jwksUri, discovery].filter((one) => one !== undefined).length > 1) {
    throw usage('where its keys are is said in one way: --jwks-uri, --jwks or --discovery');
  }
  if (reusable && singleUse) throw usage('--reusable and --single-use exclude each other');
  return {
    issuer: options.issuer,
    jwks: jwks === undefined ? undefined : readJwks(jwks),
    jwks_uri: discovery ? null : jwksUri,
    allow_private_network: options.allowPrivateNetwork,
    audiences: options.audience,
    algorithms: options.algorithm,
    uses: options.use,
    subject_claim: options.subjectClaim,
    claims: options.claim,
    max_token_age_seconds: options.maxAge,
    single_use: reusable ? false : singleUse,
  };
};

/** Rules as they are typed, one for each value. */
export const shownClaims = (item: Fields): string => {
  const claims = item.within('claims');
  return claims
    .names()
    .flatMap((name) =>
      (claims.texts(name).length > 0 ? claims.texts(name) : [claims.text(name)]).map((value) => `${name}=${value}`),
    )
    .join('  ');
};

const issuers: noun.Noun = {
  name: 'issuer',
  path: 'issuers',
  argument: '<name>',
  columns: [
    noun.plain('NAME', 'name'),
    noun.plain('ISSUER', 'issuer'),
    noun.names('USES', 'uses'),
    noun.plain('KEYS', 'keys'),
    noun.status('STATUS'),
    noun.time('CREATED', 'created_at'),
  ],
  sheet: [
    noun.plain('name', 'name'),
    noun.plain('id', 'id'),
    noun.plain('issuer', 'issuer'),
    noun.names('uses', 'uses'),
    noun.plain('keys', 'keys'),
    noun.plain('jwks uri', 'jwks_uri'),
    noun.names('audiences', 'audiences'),
    noun.names('algorithms', 'algorithms'),
    noun.plain('subject claim', 'subject_claim'),
    ['claims', shownClaims],
    ['oldest token', (issuer) => shownDuration(issuer.number('max_token_age_seconds'))],
    noun.plain('single use', 'single_use'),
    noun.status('status'),
    noun.time('created', 'created_at'),
    noun.time('updated', 'updated_at'),
  ],
};

/** Adds `issuer` and everything below it. */
export const issuerCommands = (program: Command, context: Context): void => {
  const group = program.command('issuer').description('whose tokens are believed, of workloads and of people');
  noun.listCommand(group, context, issuers);
  noun.showCommand(group, context, issuers);

  withIssuerOptions(leaf(group, 'add <name>', 'trust the tokens of an issuer').alias('create'))
    .requiredOption('--issuer <url>', 'the iss of its tokens, byte for byte, or spiffe://<trust domain>')
    .action(async (name: string, options: JsonOption & IssuerOptions) => {
      if (options.use === undefined) throw usage('what is it trusted for? --use workload, --use subject, or both');
      const { api, screen } = toolsFor(context);
      const answer = await api.call('POST', 'issuers', { body: { name, ...bodyOf(options) } });
      present(screen, options, answer, (issuer) => {
        screen.line(`Added issuer ${issuer.text('name')} (${issuer.text('id')}).`);
        screen.line();
        noun.showSheet(screen, issuers.sheet, issuer);
      });
    });

  withIssuerOptions(leaf(group, 'update <name>', 'change it; trusting it less kills what was issued on its word'))
    .option('--issuer <url>', 'the iss of its tokens')
    .option('--discovery', 'its keys are where its OpenID metadata says')
    .option('--no-allow-private-network', 'its address must be a public one')
    .action(async (name: string, options: JsonOption & IssuerOptions) => {
      const body = bodyOf(options);
      if (Object.values(body).every((value) => value === undefined)) throw usage('nothing to change was given');
      const { api, screen } = toolsFor(context);
      const answer = await api.call('PATCH', `issuers/${segment(name)}`, { body });
      present(screen, options, answer, (issuer) => screen.line(`Changed issuer ${issuer.text('name')}.`));
    });

  noun.stateCommands(group, context, issuers, {
    suspend: 'believe none of its tokens until it is resumed; what was issued on its word dies',
    resume: 'believe its tokens again',
  });
  noun.removeCommand(group, context, issuers, 'trust it no more; what was issued on its word dies');
};
