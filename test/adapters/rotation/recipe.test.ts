/** Rotation by recipes through the conformance suite, at a service that really keeps keys. */
import { rotationConformance } from '../../conformance/rotation.ts';
import { identify, recipe, setUpKeys } from './rig.ts';

rotationConformance('a recipe that creates and revokes', () => setUpKeys(() => ({ recipe })), {
  overlaps: true,
  publicFields: ['id'],
});

rotationConformance(
  'a recipe with an admin key, for a key whose id nobody told',
  () =>
    setUpKeys(
      () => ({ recipe: { ...recipe, authorise: 'admin_key', identify } }),
      ({ secret }, { admin }) => ({ value: secret, admin_key: admin }),
    ),
  { overlaps: true, publicFields: ['id'], trouble: false },
);

rotationConformance(
  'a recipe that sets what Warder makes',
  () =>
    setUpKeys(
      () => ({ recipe: { set: { path: '/v1/secret', json: { secret: '{{secret}}' } }, test: { path: '/v1/me' } } }),
      ({ secret }) => ({ value: secret }),
    ),
  { overlaps: false },
);
