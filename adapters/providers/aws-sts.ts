/**
 * `aws-sts`: sessions of a role, narrowed by a session policy made from the scopes. A session of AWS lives at least
 * fifteen minutes and nobody can end it; so each is told to allow nothing once its grant is over, and one that is revoked
 * before that is denied by name on the role: docs/providers/aws-sts.md.
 */
import type { STSClient } from '@aws-sdk/client-sts';
import { z } from 'zod';
import {
  type LivesOn,
  type Minted,
  type MintRequest,
  type Provider,
  type ProviderContext,
  ProviderFailure,
} from '../../src/ports/provider.ts';
import type { Network } from '../network.ts';
import { openBatches } from './aws-sts/batches.ts';
import { keysOf, loadSts, openSts } from './aws-sts/clients.ts';
import { type Denial, openDenySessions } from './aws-sts/deny-sessions.ts';
import { failureOf, isClearNo } from './aws-sts/failure.ts';
import { awsKeyRotation } from './aws-sts/rotation.ts';
import { sessionName } from './aws-sts/session-name.ts';
import { limits, policyProblem, type SessionPolicy, sessionPolicy } from './aws-sts/session-policy.ts';
import { type AwsSettings, addressesOf, awsSettings } from './aws-sts/settings.ts';
import { checked, jsonSchemaOf, parsedOnce } from './shared/checking.ts';

const parsed = parsedOnce<AwsSettings>(awsSettings);

const secret = z
  .strictObject({
    access_key_id: z.string().regex(/^[A-Z0-9]{16,128}$/, 'must be an access key id'),
    secret_access_key: z.string().regex(/^[\x21-\x7e]{20,200}$/, 'must be a secret access key'),
    session_token: z
      .string()
      .regex(/^[\x21-\x7e]{20,8000}$/, 'must be a session token')
      .optional(),
  })
  .transform(
    ({ session_token, ...keys }): Record<string, string> => ({
      ...keys,
      ...(session_token === undefined ? {} : { session_token }),
    }),
  )
  // A connection that says `ambient` has none.
  .optional();

/** AWS judges the end of a session by its own clock. Clocks that differ by more are not those of one time (NTP). */
const clockSkewMs = 10_000;
const sourceIdentityForm = /^[\w+=,.@-]{2,64}$/;
const tagForm = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]{0,256}$/u;

const wholeSeconds = (ms: number): number => Math.floor(ms / 1000) * 1000;

const policyOf = (request: MintRequest, settings: AwsSettings): SessionPolicy => {
  const scopes = request.scopes.flatMap((name) => {
    const found = Object.hasOwn(settings.scopes, name) ? settings.scopes[name] : undefined;
    return found ? [found] : [];
  });
  return sessionPolicy(scopes, request.expiresAt);
};

const sourceIdentityOf = ({ agent, subject }: MintRequest, settings: AwsSettings): string | undefined => {
  if (settings.source_identity === undefined) return undefined;
  return settings.source_identity === 'agent' ? agent.name : (subject ?? undefined);
};

const tagsOf = ({ agent, grantId, subject }: MintRequest, settings: AwsSettings): { Key: string; Value: string }[] =>
  settings.session_tags
    ? [
        { Key: 'warder:agent', Value: agent.name },
        { Key: 'warder:grant', Value: grantId },
        ...(subject === null ? [] : [{ Key: 'warder:subject', Value: subject }]),
      ]
    : [];

/** What AWS would refuse, said before anything is asked of it. */
const problemsOf = (request: MintRequest, settings: AwsSettings): string[] => {
  const problems: string[] = [];
  const policy = policyProblem(policyOf(request, settings));
  if (policy) problems.push(`scopes: ${policy}`);
  if (request.expiresAt - request.issuedAt > limits.mostSeconds * 1000) {
    problems.push(`ttl_seconds: a session of AWS lasts at most ${limits.mostSeconds} seconds`);
  }
  const identity = sourceIdentityOf(request, settings);
  if (settings.source_identity !== undefined && !sourceIdentityForm.test(identity ?? '')) {
    const who = settings.source_identity;
    problems.push(`${who}: must be 2 to 64 letters, digits and _+=,.@-, because AWS records it as source identity`);
  }
  if (tagsOf(request, settings).some(({ Value }) => !tagForm.test(Value))) {
    problems.push('subject: has characters that AWS takes in no session tag');
  }
  return problems;
};

/** What a grant's handle says; `made: false`: AWS refused, and nothing is there. */
const handleForm = z.object({
  role_arn: z.string(),
  session: z.string(),
  pattern: z.string(),
  /** Milliseconds since the epoch: from then on the session's own policy denies everything. */
  until: z.number(),
  made: z.literal(false).optional(),
});

const planned = (request: MintRequest, settings: AwsSettings): z.infer<typeof handleForm> => {
  const until = wholeSeconds(request.expiresAt);
  const { name, pattern } = sessionName(settings.session_name_prefix, request.agent.name, request.grantId, until);
  return { role_arn: settings.role_arn, session: name, pattern, until };
};

const assume = async (
  client: STSClient,
  request: MintRequest,
  settings: AwsSettings,
  context: ProviderContext,
): Promise<Minted> => {
  const { session, until } = planned(request, settings);
  const { document, policyArns } = policyOf(request, settings);
  const askedAt = context.now();
  const seconds = Math.max(limits.leastSeconds, Math.ceil((until - askedAt) / 1000));
  const sourceIdentity = sourceIdentityOf(request, settings);
  const tags = tagsOf(request, settings);
  const sdk = await loadSts();
  const command = new sdk.AssumeRoleCommand({
    RoleArn: settings.role_arn,
    RoleSessionName: session,
    DurationSeconds: seconds,
    Policy: document,
    ...(policyArns.length === 0 ? {} : { PolicyArns: policyArns.map((arn) => ({ arn })) }),
    ...(settings.external_id === undefined ? {} : { ExternalId: settings.external_id }),
    ...(sourceIdentity === undefined ? {} : { SourceIdentity: sourceIdentity }),
    ...(tags.length === 0 ? {} : { Tags: tags }),
  });
  const { Credentials } = await client.send(command, { abortSignal: context.signal });
  const { AccessKeyId, SecretAccessKey, SessionToken, Expiration } = Credentials ?? {};
  if (!AccessKeyId || !SecretAccessKey || !SessionToken || !Expiration || Number.isNaN(Expiration.getTime())) {
    throw new ProviderFailure('unavailable', 'AWS answered nonsense');
  }
  // The session ends by AWS's clock: where that is behind, it would outlive its grant.
  const awsNow = Expiration.getTime() - seconds * 1000;
  if (awsNow < askedAt - clockSkewMs || awsNow > context.now() + clockSkewMs) {
    throw new ProviderFailure(
      'refused',
      `the clocks of this machine and of AWS differ by over ${clockSkewMs / 1000} seconds`,
    );
  }
  return {
    credential: {
      type: 'aws',
      access_key_id: AccessKeyId,
      secret_access_key: SecretAccessKey,
      session_token: SessionToken,
      region: settings.region,
      // When it stops working, which is before AWS itself says so.
      expires_at: new Date(Math.min(until, Expiration.getTime())).toISOString(),
    },
  };
};

/** @param keyPatienceMs how long a new access key may take to be known; undefined: as long as it usually does */
export const openAwsStsProvider = (network: Network, keyPatienceMs?: number): Provider => {
  const denials = openBatches<Denial>(openDenySessions(network));

  return {
    type: 'aws-sts',
    enforcement: () => 'upstream',
    settingsSchema: jsonSchemaOf(awsSettings),
    checkSettings: (value) => checked<Record<string, unknown>>(awsSettings, value, 'settings'),
    checkSecret: (value) => checked<Record<string, string> | undefined>(secret, value, 'secret'),
    secretDestination: (value) => {
      const { sts, iam } = addressesOf(parsed(value));
      return [new URL(sts).origin, new URL(iam).origin].join(' ');
    },
    scopes: (value) => Object.keys(parsed(value).scopes),

    checkRequest: (request) => {
      const settings = parsed(request.connection.settings);
      const problems = problemsOf(request, settings);
      if (request.parameters !== undefined) problems.push('parameters: this connection takes none');
      const { secret_version: version, secret_source: source } = request.connection;
      if (settings.credentials === 'secret' && version === null && !source) {
        problems.push('connection: it has no access key yet');
      }
      return problems.length === 0 ? { ok: true, value: {} } : { ok: false, problems };
    },

    plan: (request) => ({ credentialType: 'aws', handle: planned(request, parsed(request.connection.settings)) }),

    async mint(request, plan, context) {
      const settings = parsed(request.connection.settings);
      const held = await context.secret();
      const nothingMade = async (): Promise<void> => {
        if (plan.handle) await context.journal({ ...plan.handle, made: false });
      };
      let client: STSClient;
      try {
        client = await openSts(settings, network, keysOf(settings, held));
      } catch (error) {
        await nothingMade();
        throw failureOf(error, context.signal);
      }
      try {
        return await assume(client, request, settings, context);
      } catch (error) {
        if (isClearNo(error)) await nothingMade();
        throw failureOf(error, context.signal);
      }
    },

    rotation: awsKeyRotation(parsed, network, keyPatienceMs),

    async revoke(grant, connection, context): Promise<LivesOn | undefined> {
      const handle = handleForm.safeParse(grant.handle);
      if (!handle.success) throw new ProviderFailure('refused', 'the record of this session cannot be read');
      const { role_arn: roleArn, pattern, until, made } = handle.data;
      const now = context.now();
      const endsBy = until + clockSkewMs;
      if (made === false || now >= endsBy) return undefined;
      const settings = parsed(connection.settings);
      if (now >= until || settings.revocation === 'none') return { endsBy };
      const keys = keysOf(settings, await context.secret());
      try {
        // Each connection has a policy of its own: two of them, or two Warders, do not write over each other.
        const policyName = `warder-${connection.id}`;
        const denial: Denial = { settings, roleArn, policyName, pattern, keys, now };
        await denials.add(`${connection.id} ${roleArn}`, denial, context.signal);
        return undefined;
      } catch (error) {
        throw failureOf(error, context.signal);
      }
    },

    byHand: ({ handle }) => {
      const { role_arn: role, session, until } = handleForm.parse(handle);
      const end = new Date(until + clockSkewMs).toISOString();
      return `The session ${session} of ${role} ends by itself at ${end}; before that, revoke the role's active sessions in IAM`;
    },
  };
};
