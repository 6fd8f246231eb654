-- Stamps a row of the log with what the database saw: the moment and the session user. Ordinary.

-- forwards
CREATE FUNCTION audit_log_stamp_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    NEW.at := clock_timestamp();
    NEW.db_role := session_user;
    IF NEW.actor = '' THEN
        NEW.actor := 'db:' || session_user;
    END IF;
    RETURN NEW;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_log_stamp_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_executionlog_20_stamp BEFORE INSERT ON audit_executionlog
    FOR EACH ROW EXECUTE FUNCTION audit_log_stamp_v1()

-- backwards
DROP TRIGGER audit_executionlog_20_stamp ON audit_executionlog
-- next
DROP FUNCTION audit_log_stamp_v1()
