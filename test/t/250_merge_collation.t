# Pages where locale and indexes are not the usual ones:
#  1. A search finds what is spelled the same where the locale lowers I to
#     something else than i, and what lower() makes the same.
#  2. Indexes that an administrator has made in another collation change
#     neither the order nor what a filter lets through.
#  3. A page ends within very long texts, and goes on from there.
use strict;
use warnings;

use PfaTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('collation', extension => 0, conf => "pfa_vanguard.cache_backend = off\n");
my $db = 'turkish';

$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'");
$node->safe_psql($db, q{
	CREATE EXTENSION pfa_vanguard;
	INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval,
			paused, system_identifier, database_oid)
		VALUES ('IST', 'IST', 'none', 'none', '1 day', true, 1, 1);
	INSERT INTO pfa_mirror (organization_id, pfa_id, data)
		SELECT 'IST', id, jsonb_build_object('pfaId', id, 'category', category, 'description', description) FROM (VALUES
			('a', 'Crane', 'CRANE IN ISTANBUL'), ('B', 'crane', 'Vin' || chr(231) || ' I'), ('c', 'CRANE', 'none'), ('D', 'Lift', 'none')) x (id, category, description);
});

sub ids
{
	my ($arguments) = @_;
	return $node->safe_psql($db, "SELECT coalesce(string_agg(e ->> 'pfaId', ' ' ORDER BY n), '') || '/' || (p #>> '{pagination,totalRecords}')
		FROM pfa_get('IST', $arguments) p LEFT JOIN LATERAL jsonb_array_elements(p -> 'data') WITH ORDINALITY x (e, n) ON true GROUP BY p");
}
sub search
{
	my ($text) = @_;
	return ids(qq{jsonb_build_object('searchText', $text)});
}

# 1
is($node->safe_psql($db, q{SELECT lower('I') = 'i'}), 'f', 'the locale is one of those');
is(search(q{'ISTANBUL'}), 'a/1', 'as it is spelled');
is(search(q{'istanbul'}), 'a/1', 'ASCII letters by themselves');
is(search(q{chr(231) || ' i'}), '/0', 'others as lower() has it');
is(search(q{chr(199) || ' I'}), 'B/1', 'which knows the text');

# 2
is(ids("'{}'"), 'B D a c/4', 'ids are in the order of their bytes');
is(ids(q{'{"category": "crane"}'}), 'B/1', 'a filter is exact');
$node->safe_psql($db, q{
	CREATE COLLATION other (provider = icu, locale = 'en');
	CREATE COLLATION nocase (provider = icu, locale = 'en-u-ks-level2', deterministic = false);
	CREATE INDEX ON pfa_mirror (organization_id, pfa_id COLLATE other);
	CREATE INDEX ON pfa_mirror (organization_id, category COLLATE other, pfa_id COLLATE other);
	CREATE INDEX ON pfa_mirror (organization_id, category COLLATE nocase, pfa_id);
	CREATE INDEX ON pfa_mirror (organization_id, category COLLATE nocase, is_discontinued, pfa_id);
	ALTER TABLE pfa_mirror DROP CONSTRAINT pfa_mirror_pkey, ADD CONSTRAINT pfa_mirror_pkey PRIMARY KEY (organization_id, pfa_id);
	DROP INDEX pfa_mirror_category;
});
is(ids("'{}'"), 'B D a c/4', 'the same order beside an index in another');
is(ids(q{'{"category": "crane"}'}), 'B/1', 'and the same records');
is(ids(q{'{"category": ["crane", "Lift"], "isDiscontinued": false}'}), 'B D/2', 'by several columns, too');

# 3
$node->safe_psql($db, q{INSERT INTO pfa_mirror (organization_id, pfa_id, data)
	SELECT 'IST', 'L' || i, jsonb_build_object('pfaId', 'L' || i, 'model', repeat('x', 100000) || i) FROM generate_series(1, 4) i});
is($node->safe_psql($db, q{SELECT string_agg(e ->> 'pfaId', ' ') FROM pfa_get('IST', '{}', 2, pfa_get('IST', '{}', 2, NULL, 'model') #>> '{pagination,nextCursor}', 'model') p,
	jsonb_array_elements(p -> 'data') e}), 'L3 L4', 'on from a text of 100,000 bytes');
$node->stop;
done_testing();
