-- What an import reads back of every row: ids of the one variant that RFC 9562 gives a version, and suggestions in a list.

-- forwards
ALTER TABLE audit_task ADD CONSTRAINT audit_task_id_of_rfc_9562
    CHECK ((get_byte(uuid_send(id), 8) & 192) = 128)
-- next
ALTER TABLE audit_task ADD CONSTRAINT audit_task_suggestions_list
    CHECK (jsonb_typeof(suggestions) = 'array')

-- backwards
ALTER TABLE audit_task DROP CONSTRAINT audit_task_suggestions_list
-- next
ALTER TABLE audit_task DROP CONSTRAINT audit_task_id_of_rfc_9562
