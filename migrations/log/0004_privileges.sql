-- What the api's role may do, where the programs have roles of their own (see scripts/roles).
--
-- Default privileges know no table by its name: they let the api insert into each table of the log. Whoever may insert
-- into events is the api's role, and this puts right what it may do to the others. Where there is no such role, nothing
-- happens. A migration that adds a table whose rows are changed or deleted has to do the like.
do $$
declare
    appender text;
begin
    for appender in
        select grantee::regrole::text
        from pg_class, aclexplode(relacl)
        where oid = 'events'::regclass and privilege_type = 'INSERT' and grantee <> 0 and grantee <> relowner
    loop
        execute format('revoke insert on outbox, log_migrations, log_compatibility from %s', appender);
        execute format('grant update on outbox to %s', appender);
        execute format('grant delete on accounts, idempotency_keys to %s', appender);
    end loop;
end
$$;
