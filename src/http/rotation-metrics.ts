/** What Prometheus sees of rotations: read from memory when it is asked for. */
import { Gauge, type Registry } from 'prom-client';
import { openRotationStatuses, type RotationPolicy } from '../domain/rotation.ts';
import type { Core } from '../services/core.ts';
import { dueAt, overdueAfterMs } from '../services/rotation/due.ts';

export const watchRotations = (registry: Registry, core: Core): void => {
  new Gauge({
    name: 'warder_rotations',
    help: 'Rotations that have not ended, by status (asked, running, grace, stuck).',
    labelNames: ['status'],
    registers: [registry],
    collect() {
      const rows = core.state.rotations.all();
      for (const status of openRotationStatuses)
        this.set({ status }, rows.filter((row) => row.status === status).length);
    },
  });
  new Gauge({
    name: 'warder_rotations_overdue',
    help: 'Rotation policies whose rotation is overdue.',
    registers: [registry],
    collect() {
      const now = core.clock.now();
      const overdue = core.state.rotationPolicies.all().filter((policy) => {
        const due = dueAt(policy);
        return due !== undefined && now > due + overdueAfterMs;
      });
      this.set(overdue.length);
    },
  });
  new Gauge({
    name: 'warder_rotation_due_seconds',
    help: 'Seconds until a rotation is due by its policy; negative: since it was. By connection, or key of Warder’s own.',
    labelNames: ['of'],
    registers: [registry],
    collect() {
      this.reset();
      const now = core.clock.now();
      for (const policy of core.state.rotationPolicies.all()) {
        const due = dueAt(policy);
        if (due !== undefined) this.set({ of: nameOf(core, policy) }, Math.round((due - now) / 1000));
      }
    },
  });
};

const nameOf = (core: Core, { id, connection_id }: RotationPolicy): string =>
  core.state.connections.get(connection_id ?? '')?.name ?? id;
