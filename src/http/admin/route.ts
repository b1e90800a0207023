/**
 * What an admin route is: data. The table of all of them is the role matrix, the router and the API description at
 * once, so that none of the three can disagree with another.
 */
import type { Request, Response } from 'express';
import type { z } from 'zod';
import type { Operator, Role } from '../../domain/model.ts';
import type { Caller } from '../../services/core.ts';
import type { Edge } from '../edge.ts';

export interface AdminContext<Body, Query> {
  edge: Edge;
  operator: Operator;
  caller: Caller;
  params: Record<string, string>;
  body: Body;
  query: Query;
  req: Request;
  res: Response;
}

/** What a route answers; `undefined` when it wrote to `res` itself. */
export type Answer = { status: number; body?: unknown; location?: string } | undefined;

export interface AdminRoute {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Below `/admin/v1`, with `:parameters`. */
  path: string;
  roles: readonly Role[];
  summary: string;
  body?: z.ZodType;
  query?: z.ZodType;
  maxBodyBytes?: number;
  handle(context: AdminContext<never, never>): Promise<Answer>;
}

/** Gives a handler the types of its schemas. */
export const route = <
  B extends z.ZodType = z.ZodUndefined,
  Q extends z.ZodType = z.ZodObject<Record<never, never>>,
>(definition: {
  method: AdminRoute['method'];
  path: string;
  roles: readonly Role[];
  summary: string;
  body?: B;
  query?: Q;
  maxBodyBytes?: number;
  handle(context: AdminContext<z.infer<B>, z.infer<Q>>): Promise<Answer>;
}): AdminRoute => definition as AdminRoute;

export const ok = (body: unknown): Answer => ({ status: 200, body });
export const created = (body: unknown, location: string): Answer => ({ status: 201, body, location });
export const noContent = (): Answer => ({ status: 204 });

/** Who may do what. Reading configuration is for everybody who works here; changing it is not. */
export const everyone: readonly Role[] = ['admin', 'operator', 'approver', 'reviewer', 'responder', 'auditor'];
export const managers: readonly Role[] = ['admin', 'operator'];
export const admins: readonly Role[] = ['admin'];
export const responders: readonly Role[] = ['admin', 'operator', 'responder'];
export const auditReaders: readonly Role[] = ['admin', 'operator', 'reviewer', 'responder', 'auditor'];

/** A page that the database gave, newest first. @param items what is shown of `rows`, in their order */
export const pageBefore = (rows: readonly { id: string }[], limit: number, items: readonly unknown[]): Answer =>
  ok({ items, next_cursor: rows.length === limit ? (rows.at(-1)?.id ?? null) : null });

/** A page of a list that is held in memory, by id. */
export const pageOf = <T extends { id: string }>(
  rows: T[],
  query: { cursor?: string | undefined; limit: number },
  view: (row: T) => unknown,
): Answer => {
  const sorted = rows.sort((a, b) => (a.id < b.id ? -1 : 1));
  const from = query.cursor === undefined ? 0 : sorted.findIndex((row) => row.id > String(query.cursor));
  const page = from < 0 ? [] : sorted.slice(from, from + query.limit);
  const more = from >= 0 && from + query.limit < sorted.length;
  return ok({ items: page.map(view), next_cursor: more ? (page.at(-1)?.id ?? null) : null });
};
