/** A little Cloud Storage: the JSON API's objects, allowed by the bucket's policy, the OAuth scope and the boundary. */
import { statusProblem } from './answers.ts';
import { type GcpState, rolePermissions, type Token } from './state.ts';

const auth = 'https://www.googleapis.com/auth/';
const readScopes = ['cloud-platform', 'devstorage.read_only', 'devstorage.read_write', 'devstorage.full_control'];
const writeScopes = ['cloud-platform', 'devstorage.read_write', 'devstorage.full_control'];

/** The one condition the documentation of boundaries is about: names that begin so. */
export const readCondition = (expression: string): { bucket: string; prefix: string } | undefined => {
  const found = /^resource\.name\.startsWith\('projects\/_\/buckets\/([^/']+)\/objects\/([^']*)'\)$/.exec(expression);
  return found ? { bucket: found[1] ?? '', prefix: found[2] ?? '' } : undefined;
};

const permitted = (roles: readonly string[], permission: string): boolean =>
  roles.some((role) => rolePermissions[role]?.includes(permission));

/** Access boundaries take away: the policy must allow it, and a rule must, too. */
const withinBoundary = (token: Token, bucket: string, object: string, permission: string): boolean =>
  token.boundary === null ||
  token.boundary.some((rule) => {
    if (rule.availableResource !== `//storage.googleapis.com/projects/_/buckets/${bucket}`) return false;
    if (
      !permitted(
        rule.availablePermissions.map((one) => one.slice('inRole:'.length)),
        permission,
      )
    )
      return false;
    const condition = rule.availabilityCondition && readCondition(rule.availabilityCondition.expression);
    return condition === undefined || (condition.bucket === bucket && object.startsWith(condition.prefix));
  });

const requireAccess = (
  state: GcpState,
  token: Token | undefined,
  bucket: string,
  object: string,
  permission: string,
) => {
  if (!token) throw statusProblem(401, 'Invalid Credentials');
  const scopes = permission === 'storage.objects.create' ? writeScopes : readScopes;
  if (!token.scopes.some((scope) => scopes.includes(scope.slice(auth.length)))) {
    throw statusProblem(403, 'Insufficient Permission');
  }
  const found = state.buckets.get(bucket);
  const allowed = permitted(found?.policy.get(token.principal) ?? [], permission);
  if (!found || !allowed || !withinBoundary(token, bucket, object, permission)) {
    throw statusProblem(
      403,
      `${token.principal} does not have ${permission} access to the Google Cloud Storage object.`,
    );
  }
  return found;
};

export const getObject = (state: GcpState, token: Token | undefined, bucket: string, object: string) => {
  const content = requireAccess(state, token, bucket, object, 'storage.objects.get').objects.get(object);
  if (!content) throw statusProblem(404, `No such object: ${bucket}/${object}`);
  return { kind: 'storage#object', bucket, name: object, size: String(content.length) };
};

export const insertObject = (
  state: GcpState,
  token: Token | undefined,
  bucket: string,
  object: string,
  content: Buffer,
) => {
  requireAccess(state, token, bucket, object, 'storage.objects.create').objects.set(object, content);
  return { kind: 'storage#object', bucket, name: object, size: String(content.length) };
};
