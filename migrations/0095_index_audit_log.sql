-- Entries about one thing, or by one actor, are found without those of others.
create index audit_log_by_subject on audit_log (subject, at, id);
create index audit_log_by_actor on audit_log (actor, at, id);

-- The 10 000 newest entries before a place: about one thing, or else by one actor, or else of one organisation, or else all. Null
-- leaves a choice out. Each branch has an index of its own. Postgres puts it into the statement that calls it, as long as it stays
-- one query and `stable`.
create function audit_entries(
    org uuid, its_subject text, its_actor text, before_at timestamptz, before_id uuid
) returns setof audit_log language sql stable as $$
    (select * from audit_log a
     where a.subject = its_subject and (a.at, a.id) < (before_at, before_id)
     order by a.at desc, a.id desc limit 10000)
    union all
    (select * from audit_log a
     where its_subject is null and a.actor = its_actor and (a.at, a.id) < (before_at, before_id)
     order by a.at desc, a.id desc limit 10000)
    union all
    (select * from audit_log a
     where its_subject is null and its_actor is null and a.org_id = org and (a.at, a.id) < (before_at, before_id)
     order by a.at desc, a.id desc limit 10000)
    union all
    (select * from audit_log a
     where its_subject is null and its_actor is null and org is null and (a.at, a.id) < (before_at, before_id)
     order by a.at desc, a.id desc limit 10000)
$$;
