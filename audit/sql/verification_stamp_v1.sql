-- Dates a verification no later than the moment when it is stored, so that no postdated one stays the newest. Ordinary:
-- a restore keeps the dates of its source.

-- forwards
CREATE FUNCTION audit_verification_stamp_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    NEW.finished_at := least(NEW.finished_at, clock_timestamp());
    RETURN NEW;
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_verification_stamp_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_ledger_verification_20_stamp BEFORE INSERT ON audit_ledger_verification
    FOR EACH ROW EXECUTE FUNCTION audit_verification_stamp_v1()

-- backwards
DROP TRIGGER audit_ledger_verification_20_stamp ON audit_ledger_verification
-- next
DROP FUNCTION audit_verification_stamp_v1()
