-- Keeps the ledger append-only. Leaves, checkpoints, epochs and verifications refuse UPDATE; every table of the ledger
-- refuses DELETE and TRUNCATE. Head and tiles change as the tree grows; the verifier compares them with the leaves and
-- the signatures. ENABLE ALWAYS. An owner can drop these triggers; then the signatures show what was changed
-- (docs/ledger-format.md).

-- forwards
CREATE FUNCTION audit_ledger_guard_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RAISE EXCEPTION '%: the ledger takes no %', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
            HINT = 'The ledger only grows; after a legitimate restore it goes on in a new epoch.';
END
$function$
-- next
REVOKE ALL ON FUNCTION audit_ledger_guard_v1() FROM PUBLIC
-- next
CREATE TRIGGER audit_ledger_leaf_10_guard BEFORE UPDATE OR DELETE ON audit_ledger_leaf
    FOR EACH ROW EXECUTE FUNCTION audit_ledger_guard_v1()
-- next
ALTER TABLE audit_ledger_leaf ENABLE ALWAYS TRIGGER audit_ledger_leaf_10_guard
-- next
CREATE TRIGGER audit_ledger_leaf_10_no_truncate BEFORE TRUNCATE ON audit_ledger_leaf
    FOR EACH STATEMENT EXECUTE FUNCTION audit_truncate_guard_v1()
-- next
ALTER TABLE audit_ledger_leaf ENABLE ALWAYS TRIGGER audit_ledger_leaf_10_no_truncate
-- next
CREATE TRIGGER audit_ledger_checkpoint_10_guard BEFORE UPDATE OR DELETE ON audit_ledger_checkpoint
    FOR EACH ROW EXECUTE FUNCTION audit_ledger_guard_v1()
-- next
ALTER TABLE audit_ledger_checkpoint ENABLE ALWAYS TRIGGER audit_ledger_checkpoint_10_guard
-- next
CREATE TRIGGER audit_ledger_checkpoint_10_no_truncate BEFORE TRUNCATE ON audit_ledger_checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION audit_truncate_guard_v1()
-- next
ALTER TABLE audit_ledger_checkpoint ENABLE ALWAYS TRIGGER audit_ledger_checkpoint_10_no_truncate
-- next
CREATE TRIGGER audit_ledger_epoch_10_guard BEFORE UPDATE OR DELETE ON audit_ledger_epoch
    FOR EACH ROW EXECUTE FUNCTION audit_ledger_guard_v1()
-- next
ALTER TABLE audit_ledger_epoch ENABLE ALWAYS TRIGGER audit_ledger_epoch_10_guard
-- next
CREATE TRIGGER audit_ledger_epoch_10_no_truncate BEFORE TRUNCATE ON audit_ledger_epoch
    FOR EACH STATEMENT EXECUTE FUNCTION audit_truncate_guard_v1()
-- next
ALTER TABLE audit_ledger_epoch ENABLE ALWAYS TRIGGER audit_ledger_epoch_10_no_truncate
-- next
CREATE TRIGGER audit_ledger_verification_10_guard BEFORE UPDATE OR DELETE ON audit_ledger_verification
    FOR EACH ROW EXECUTE FUNCTION audit_ledger_guard_v1()
-- next
ALTER TABLE audit_ledger_verification ENABLE ALWAYS TRIGGER audit_ledger_verification_10_guard
-- next
CREATE TRIGGER audit_ledger_verification_10_no_truncate BEFORE TRUNCATE ON audit_ledger_verification
    FOR EACH STATEMENT EXECUTE FUNCTION audit_truncate_guard_v1()
-- next
ALTER TABLE audit_ledger_verification ENABLE ALWAYS TRIGGER audit_ledger_verification_10_no_truncate
-- next
CREATE TRIGGER audit_ledger_head_10_guard BEFORE DELETE ON audit_ledger_head
    FOR EACH ROW EXECUTE FUNCTION audit_ledger_guard_v1()
-- next
ALTER TABLE audit_ledger_head ENABLE ALWAYS TRIGGER audit_ledger_head_10_guard
-- next
CREATE TRIGGER audit_ledger_head_10_no_truncate BEFORE TRUNCATE ON audit_ledger_head
    FOR EACH STATEMENT EXECUTE FUNCTION audit_truncate_guard_v1()
-- next
ALTER TABLE audit_ledger_head ENABLE ALWAYS TRIGGER audit_ledger_head_10_no_truncate
-- next
CREATE TRIGGER audit_ledger_tile_10_guard BEFORE DELETE ON audit_ledger_tile
    FOR EACH ROW EXECUTE FUNCTION audit_ledger_guard_v1()
-- next
ALTER TABLE audit_ledger_tile ENABLE ALWAYS TRIGGER audit_ledger_tile_10_guard
-- next
CREATE TRIGGER audit_ledger_tile_10_no_truncate BEFORE TRUNCATE ON audit_ledger_tile
    FOR EACH STATEMENT EXECUTE FUNCTION audit_truncate_guard_v1()
-- next
ALTER TABLE audit_ledger_tile ENABLE ALWAYS TRIGGER audit_ledger_tile_10_no_truncate

-- backwards
DROP TRIGGER audit_ledger_tile_10_no_truncate ON audit_ledger_tile
-- next
DROP TRIGGER audit_ledger_tile_10_guard ON audit_ledger_tile
-- next
DROP TRIGGER audit_ledger_head_10_no_truncate ON audit_ledger_head
-- next
DROP TRIGGER audit_ledger_head_10_guard ON audit_ledger_head
-- next
DROP TRIGGER audit_ledger_verification_10_no_truncate ON audit_ledger_verification
-- next
DROP TRIGGER audit_ledger_verification_10_guard ON audit_ledger_verification
-- next
DROP TRIGGER audit_ledger_epoch_10_no_truncate ON audit_ledger_epoch
-- next
DROP TRIGGER audit_ledger_epoch_10_guard ON audit_ledger_epoch
-- next
DROP TRIGGER audit_ledger_checkpoint_10_no_truncate ON audit_ledger_checkpoint
-- next
DROP TRIGGER audit_ledger_checkpoint_10_guard ON audit_ledger_checkpoint
-- next
DROP TRIGGER audit_ledger_leaf_10_no_truncate ON audit_ledger_leaf
-- next
DROP TRIGGER audit_ledger_leaf_10_guard ON audit_ledger_leaf
-- next
DROP FUNCTION audit_ledger_guard_v1()
