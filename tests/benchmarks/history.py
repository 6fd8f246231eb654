"""The history that a careful user would add to a task queue that keeps none, in plain SQL."""

__all__ = ["ACTOR", "history_sql"]

ACTOR = {"options": "-c history.actor=worker"}
"""OPTIONS of a connection that name who acts: once for the session, so that no statement has to."""


def history_sql(table: str, *, key: str, deleted: str = "'deleted'") -> str:
    """Write the table and the triggers that keep who moved a job from which status to which, when and by which role.

    They are written to be fast. Rows that come or go are written once a statement. Rows that change are written one
    by one, and only if their status changed: joining the old rows with the new ones costs as much for one row and a
    tenth more for a hundred. A role needs no right on the history to be in it, so that it cannot write there itself;
    nothing else protects it, and nothing compares it with the jobs.

    Args:
        table: where the jobs are; its columns `id` and `status` are read.
        key: the type of `id`.
        deleted: SQL for the status that a row of `gone`, the deleted jobs, has ended in.
    """
    return f"""
CREATE TABLE {table}_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id {key} NOT NULL,
    at timestamptz NOT NULL DEFAULT statement_timestamp(),
    from_status text,
    to_status text NOT NULL,
    actor text NOT NULL DEFAULT coalesce(current_setting('history.actor', true), ''),
    db_role text NOT NULL DEFAULT session_user
);
CREATE INDEX {table}_history_job ON {table}_history (job_id, id);
CREATE INDEX {table}_history_at ON {table}_history USING brin (at);
REVOKE ALL ON {table}_history FROM PUBLIC;

CREATE FUNCTION {table}_history_came() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO {table}_history (job_id, to_status) SELECT id, status FROM came;
    RETURN NULL;
END $$;
CREATE TRIGGER {table}_history_came AFTER INSERT ON {table} REFERENCING NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION {table}_history_came();

CREATE FUNCTION {table}_history_moved() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO {table}_history (job_id, from_status, to_status) VALUES (NEW.id, OLD.status, NEW.status);
    RETURN NULL;
END $$;
CREATE TRIGGER {table}_history_moved AFTER UPDATE ON {table}
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION {table}_history_moved();

CREATE FUNCTION {table}_history_went() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO {table}_history (job_id, from_status, to_status) SELECT id, status, {deleted} FROM gone;
    RETURN NULL;
END $$;
CREATE TRIGGER {table}_history_went AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION {table}_history_went();
"""
