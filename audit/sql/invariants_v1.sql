-- What a row must be, in every role and on every replica: the CHECKs that Django's constraints cannot say.

-- forwards
-- A UUIDv7, so that order by id is order by time and partitions by RANGE(id) stay possible.
ALTER TABLE audit_task ADD CONSTRAINT audit_task_id_is_uuid7
    CHECK ((get_byte(uuid_send(id), 6) & 240) = 112)
-- next
-- One dimension counted from 1, no NULL among the names. CASE, because array_position cannot look into nested arrays.
ALTER TABLE audit_task ADD CONSTRAINT audit_task_services_flat
    CHECK (CASE WHEN array_ndims(services_touched) = 1
        THEN array_lower(services_touched, 1) = 1 AND array_position(services_touched, NULL) IS NULL
        ELSE cardinality(services_touched) = 0 END)
-- next
ALTER TABLE audit_task ADD CONSTRAINT audit_task_seal_form
    CHECK (row_version = 1 AND octet_length(salt) = 16 AND octet_length(row_hash) = 32)
-- next
ALTER TABLE audit_executionlog ADD CONSTRAINT audit_executionlog_seal_form
    CHECK (octet_length(salt) = 16 AND octet_length(row_hash) = 32)
-- next
ALTER TABLE audit_executionlog ADD CONSTRAINT audit_executionlog_moment_readable
    CHECK (at >= '0001-01-02 00:00:00+00' AND at < '9999-12-31 00:00:00+00')

-- backwards
ALTER TABLE audit_executionlog DROP CONSTRAINT audit_executionlog_moment_readable
-- next
ALTER TABLE audit_executionlog DROP CONSTRAINT audit_executionlog_seal_form
-- next
ALTER TABLE audit_task DROP CONSTRAINT audit_task_seal_form
-- next
ALTER TABLE audit_task DROP CONSTRAINT audit_task_services_flat
-- next
ALTER TABLE audit_task DROP CONSTRAINT audit_task_id_is_uuid7
