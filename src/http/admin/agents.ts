/** `/admin/v1/agents`. */
import { z } from 'zod';
import { assertionAlgorithms } from '../../domain/model.ts';
import { isPlainLine, isShowable } from '../../domain/names.ts';
import {
  hasPrivateMember,
  maxMemberLength,
  minRsaBits,
  publicJwkOf,
  publicMembersOf,
} from '../../domain/public-jwk.ts';
import { Refused } from '../../domain/refusals.ts';
import {
  type AgentPatch,
  type AuthInput,
  agentCalled,
  createAgent,
  deleteAgent,
  renewClientSecret,
  updateAgent,
} from '../../services/access/manage-agents.ts';
import * as field from '../schemas.ts';
import { agentView } from '../views.ts';
import { type AdminRoute, created, everyone, managers, noContent, ok, pageOf, responders, route } from './route.ts';

/** Public keys only: a JWK with a private or symmetric member is refused, not stored. */
const publicJwk = z
  .record(z.string().max(100), z.unknown())
  .refine((jwk) => jwk['kty'] === 'RSA' || jwk['kty'] === 'EC' || jwk['kty'] === 'OKP', 'kty must be RSA, EC or OKP')
  .refine((jwk) => !hasPrivateMember(jwk), 'this is a private key; register the public one')
  .transform((jwk) => publicMembersOf(jwk))
  .refine(
    (jwk) => Object.values(jwk).every((value) => typeof value === 'string' && isPlainLine(value, maxMemberLength)),
    'its members must be plain texts',
  )
  .refine((jwk) => publicJwkOf(jwk) !== undefined, `not a public key that can be used; RSA needs ${minRsaBits} bits`);

export const publicJwks = z.strictObject({ keys: z.array(publicJwk).min(1).max(20) });

const hasUserInfo = (text: string): boolean => {
  const url = URL.parse(text);
  return url !== null && (url.username !== '' || url.password !== '');
};

export const authSchema = z
  .discriminatedUnion('method', [
    z.strictObject({ method: z.literal('client_secret_basic') }),
    z.strictObject({ method: z.literal('client_secret_post') }),
    z.strictObject({
      method: z.literal('private_key_jwt'),
      jwks: publicJwks.optional(),
      jwks_uri: z
        .url({ protocol: /^https?$/ })
        .max(2000)
        .refine((url) => !hasUserInfo(url), 'no credentials in a URL: they are a secret')
        .refine(isShowable, 'visible characters only')
        .optional(),
      algorithms: z
        .array(z.enum(assertionAlgorithms))
        .min(1)
        .default([...assertionAlgorithms]),
      allow_private_network: z.boolean().optional(),
    }),
    z.strictObject({ method: z.literal('workload'), issuer: field.reference, claims: field.claimRules }),
  ])
  .superRefine((auth, context) => {
    // Without it any workload of the issuer would be this agent, those of other teams and repositories too.
    if (auth.method === 'workload' && auth.claims['sub'] === undefined) {
      context.addIssue({ code: 'custom', path: ['claims', 'sub'], message: 'say which subject (sub) the agent is' });
    }
    if (auth.method !== 'private_key_jwt') return;
    if ((auth.jwks === undefined) === (auth.jwks_uri === undefined)) {
      context.addIssue({ code: 'custom', message: 'private_key_jwt needs either jwks or jwks_uri' });
    }
    if (auth.jwks_uri?.startsWith('http:') && auth.allow_private_network !== true) {
      context.addIssue({
        code: 'custom',
        path: ['jwks_uri'],
        message: 'https only, unless allow_private_network is set',
      });
    }
  });

export const authInput = (auth: z.infer<typeof authSchema>): AuthInput => {
  if (auth.method === 'workload') return auth;
  if (auth.method !== 'private_key_jwt') return { method: auth.method };
  return {
    method: auth.method,
    algorithms: auth.algorithms,
    ...(auth.jwks === undefined ? {} : { jwks: auth.jwks }),
    ...(auth.jwks_uri === undefined ? {} : { jwks_uri: auth.jwks_uri }),
    ...(auth.allow_private_network === undefined ? {} : { allow_private_network: auth.allow_private_network }),
  };
};

export const dpop = z.enum(['optional', 'required']);

const create = z.strictObject({
  name: field.name,
  owner: field.owner,
  purpose: field.purpose.nullish(),
  auth: authSchema.default({ method: 'client_secret_basic' }),
  dpop: dpop.default('optional'),
});
const patch = z.strictObject({
  owner: field.owner.optional(),
  purpose: field.purpose.nullish(),
  status: field.status.optional(),
  auth: authSchema.optional(),
  dpop: dpop.optional(),
});
const list = z.strictObject({
  ...field.pageQuery('agt'),
  owner: field.owner.optional(),
  status: field.status.optional(),
});

export const agentRoutes: AdminRoute[] = [
  route({
    method: 'POST',
    path: '/agents',
    roles: managers,
    summary: 'Register an agent; a client secret is shown this once',
    body: create,
    handle: async ({ edge, body, caller }) => {
      const { agent, clientSecret } = await createAgent(edge.core, { ...body, auth: authInput(body.auth) }, caller);
      return created(
        { ...agentView(edge.core, agent), ...(clientSecret === undefined ? {} : { client_secret: clientSecret }) },
        `/admin/v1/agents/${agent.name}`,
      );
    },
  }),
  route({
    method: 'GET',
    path: '/agents',
    roles: everyone,
    summary: 'List agents',
    query: list,
    handle: async ({ edge, query }) =>
      pageOf(
        edge.core.state.agents
          .all()
          .filter((agent) => query.owner === undefined || agent.owner === query.owner)
          .filter((agent) => query.status === undefined || agent.status === query.status),
        query,
        (agent) => agentView(edge.core, agent),
      ),
  }),
  route({
    method: 'GET',
    path: '/agents/:name',
    roles: everyone,
    summary: 'Show an agent',
    handle: async ({ edge, params }) => ok(agentView(edge.core, agentCalled(edge.core, params['name'] ?? ''))),
  }),
  route({
    method: 'PATCH',
    path: '/agents/:name',
    roles: responders,
    summary: 'Change, suspend or resume an agent (a responder may only suspend and resume)',
    body: patch,
    handle: async ({ edge, params, body, operator, caller }) => {
      const onlyStatus = Object.keys(body).every((key) => key === 'status');
      if (!onlyStatus && !operator.roles.some((role) => managers.includes(role))) {
        throw new Refused('forbidden', 'a responder may only suspend and resume');
      }
      const agent = agentCalled(edge.core, params['name'] ?? '');
      const change: AgentPatch = {
        ...(body.owner === undefined ? {} : { owner: body.owner }),
        ...(body.purpose === undefined ? {} : { purpose: body.purpose }),
        ...(body.status === undefined ? {} : { status: body.status }),
        ...(body.auth === undefined ? {} : { auth: authInput(body.auth) }),
        ...(body.dpop === undefined ? {} : { dpop: body.dpop }),
      };
      const result = await updateAgent(edge.core, agent, change, operator, caller);
      return ok({
        ...agentView(edge.core, result.agent),
        ...(result.clientSecret === undefined ? {} : { client_secret: result.clientSecret }),
      });
    },
  }),
  route({
    method: 'POST',
    path: '/agents/:name/secret',
    roles: managers,
    summary: 'Make a new client secret; the old one, and all it obtained, is dead at once',
    handle: async ({ edge, params, operator, caller }) => {
      const agent = agentCalled(edge.core, params['name'] ?? '');
      const { clientSecret } = await renewClientSecret(edge.core, agent, operator, caller);
      return created({ client_id: agent.name, client_secret: clientSecret }, `/admin/v1/agents/${agent.name}`);
    },
  }),
  route({
    method: 'DELETE',
    path: '/agents/:name',
    roles: managers,
    summary: 'Delete an agent and kill all it holds',
    handle: async ({ edge, params, operator, caller }) => {
      await deleteAgent(edge.core, agentCalled(edge.core, params['name'] ?? ''), operator, caller);
      return noContent();
    },
  }),
];
