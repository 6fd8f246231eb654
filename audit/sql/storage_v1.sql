-- Leaves room on each page for updates that touch no index, so that heartbeats stay HOT. Lets autovacuum follow a busy
-- queue.

-- forwards
ALTER TABLE audit_task SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.02)
-- next
ALTER TABLE audit_pause_queue
    SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.02)

-- backwards
ALTER TABLE audit_pause_queue
    RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay,
    autovacuum_analyze_scale_factor)
-- next
ALTER TABLE audit_task RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay,
    autovacuum_analyze_scale_factor)
