/** OpenAPI 3.1, generated from the schemas that the routes parse with. */
import { z } from 'zod';
import { refusalStatus } from '../domain/refusals.ts';
import type { Core } from '../services/core.ts';
import { adminTable } from './admin/router.ts';
import { agentSchemas } from './agent/routes.ts';

const jsonSchema = (schema: z.ZodType): object => z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });

const problem = {
  description: 'A refusal (RFC 9457)',
  content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
};

const body = (schema: z.ZodType) => ({
  required: true,
  content: { 'application/json': { schema: jsonSchema(schema) } },
});

const parametersOf = (path: string, query: z.ZodType | undefined): object[] => {
  const inPath = [...path.matchAll(/:([a-z]+)/g)].map((found) => ({
    name: found[1],
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
  const shape = query instanceof z.ZodObject ? Object.entries(query.shape) : [];
  const inQuery = shape.map(([name, schema]) => ({
    name,
    in: 'query',
    required: false,
    schema: schema instanceof z.ZodType ? jsonSchema(schema) : {},
  }));
  return [...inPath, ...inQuery];
};

const openApiPath = (path: string): string => path.replace(/:([a-z]+)/g, '{$1}');

const agentPaths = {
  '/v1/connections': { get: { summary: 'What this agent may ask for', security: [{ agent: [] }] } },
  '/v1/grants': {
    post: { summary: 'Ask for a grant', security: [{ agent: [] }], requestBody: body(agentSchemas.grantRequest) },
  },
  '/v1/grants/{id}': {
    get: { summary: 'Look at a grant', security: [{ agent: [] }] },
    delete: { summary: 'Give a grant back early', security: [{ agent: [] }] },
  },
  '/v1/grants/{id}/renew': {
    post: { summary: 'Prolong a grant', security: [{ agent: [] }], requestBody: body(agentSchemas.renewRequest) },
  },
};

const sshPaths = {
  '/ssh/{connection}/krl': { get: { summary: 'The revocation list of an ssh connection, for RevokedKeys of sshd' } },
  '/ssh/{connection}/ca.pub': { get: { summary: 'Its authority, for TrustedUserCAKeys of sshd' } },
};

/** @returns the whole description, as plain data */
export const openApi = (core: Core): object => {
  const paths: Record<string, Record<string, unknown>> = {};
  const add = (path: string, method: string, operation: Record<string, unknown>): void => {
    paths[path] = {
      ...paths[path],
      [method]: { responses: { '2XX': { description: 'Done' }, default: problem }, ...operation },
    };
  };
  for (const [path, methods] of Object.entries(agentPaths)) {
    for (const [method, operation] of Object.entries(methods)) {
      add(path, method, {
        tags: ['agents'],
        parameters: parametersOf(path.replace(/\{([a-z]+)\}/g, ':$1'), undefined),
        ...operation,
      });
    }
  }
  for (const [path, methods] of Object.entries(sshPaths)) {
    const parameters = parametersOf(path.replace(/\{([a-z]+)\}/g, ':$1'), undefined);
    for (const [method, operation] of Object.entries(methods))
      add(path, method, { tags: ['ssh'], parameters, ...operation });
  }
  for (const entry of adminTable) {
    add(`/admin/v1${openApiPath(entry.path)}`, entry.method.toLowerCase(), {
      tags: ['operators'],
      summary: entry.summary,
      description: `Roles: ${entry.roles.join(', ')}.`,
      security: [{ operator: [] }],
      parameters: parametersOf(entry.path, entry.query),
      ...(entry.body ? { requestBody: body(entry.body) } : {}),
    });
  }
  const bearer = (description: string) => ({ type: 'http', scheme: 'bearer', description });
  return {
    openapi: '3.1.0',
    info: {
      title: 'Warder',
      version: '1',
      description: 'Secrets broker for AI agents.',
      license: { name: 'Apache-2.0' },
    },
    servers: [{ url: core.issuer }],
    paths,
    components: {
      securitySchemes: {
        agent: bearer('An agent token (wdr_at_…) from POST /token'),
        operator: bearer('An operator token (wdr_op_…)'),
      },
      schemas: {
        Problem: {
          type: 'object',
          required: ['type', 'title', 'status', 'code', 'detail', 'request_id'],
          properties: {
            type: { type: 'string' },
            title: { type: 'string' },
            status: { type: 'integer' },
            code: { enum: Object.keys(refusalStatus) },
            detail: { type: 'string' },
            request_id: { type: 'string' },
            problems: { type: 'array', items: { type: 'string' } },
          },
        },
        ProviderSettings: {
          oneOf: [...core.providers.values()].map((provider) => ({
            title: provider.type,
            ...provider.settingsSchema,
          })),
        },
        RotationMethod: {
          oneOf: [...core.providers.values()].flatMap(({ type, rotation }) =>
            rotation ? [{ title: type, ...rotation.methodSchema }] : [],
          ),
        },
      },
    },
  };
};
