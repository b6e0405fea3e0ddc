# What pfa_get says, compared with a plain recomputation over the merged set:
#  1. Thousands of random combinations of filters, order and page size, walked
#     from page to page, give the records, their order, their content and the
#     total of the recomputation, for users with and without drafts, while
#     drafts, commits, discards, syncs and changes of state go on.
#  2. pfa_merged_live and pfa_record say the same.
#  3. Nobody deadlocks.
# PFA_SEED and PFA_ROUNDS (of 100 combinations) make it another or a longer run.
use strict;
use warnings;

use lib 'test/perl';
use PfaTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{PFA_SEED} // int(rand(1_000_000));
my $rounds = $ENV{PFA_ROUNDS} // 20;
my $node = new_server('property', conf => "autovacuum_naptime = 1s\ndeadlock_timeout = 100ms\n");
my $db = 'postgres';

note("PFA_SEED=$seed");
$node->safe_psql($db, q{
	INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval,
			paused, system_identifier, database_oid)
		SELECT o, o, 'none', 'none', '1 day', true, 1, 1 FROM unnest('{A,B}'::text[]) o;
	CREATE SCHEMA t;
	CREATE FUNCTION t.pick(VARIADIC choice text[]) RETURNS text LANGUAGE sql VOLATILE
		AS 'SELECT choice[1 + floor(random() * cardinality(choice))::int]';
	CREATE FUNCTION t.day(lowest int DEFAULT 0, width int DEFAULT 60) RETURNS text LANGUAGE sql VOLATILE
		AS $$ SELECT to_char(date '2025-01-01' + lowest + floor(random() * width)::int, 'YYYY-MM-DD') $$;
	CREATE FUNCTION t.cost(d jsonb, period text, applies boolean) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
		SELECT CASE WHEN NOT applies THEN NULL WHEN d->>'source' = 'Purchase' THEN round((d->>'purchasePrice')::numeric, 2)
			ELSE round((to_date(d->>(period || 'End'), 'YYYY-MM-DD') - to_date(d->>(period || 'Start'), 'YYYY-MM-DD'))
				* (d->>'monthlyRate')::numeric / 30.44, 2) END $$;
	-- a record as a sync would store it
	CREATE FUNCTION t.record(id text) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
		SELECT d || jsonb_build_object('planCost', t.cost(d, 'original', true), 'forecastCost', t.cost(d, 'forecast', true),
			'actualCost', t.cost(d, 'actual', (d->>'isActualized')::boolean))
		FROM (SELECT jsonb_build_object('pfaId', id, 'category', t.pick('Cranes', 'Pumps', 'Trucks', NULL),
			'class', t.pick('a', 'B', 'ä', NULL), 'source', t.pick('Rental', 'Purchase'), 'dor', t.pick('BEO', 'PROJECT'),
			'areaSilo', t.pick('N', 'S', NULL), 'manufacturer', t.pick('Acme', 'Über', NULL), 'model', t.pick('m1', 'M1', 'm2'),
			'description', t.pick('Crawler Crane', 'größe XL', 'small'), 'monthlyRate', t.pick('100', '100.00', '99.995', '-3', NULL)::numeric,
			'purchasePrice', t.pick('5000', '0.005', NULL)::numeric,
			'originalStart', t.day(), 'originalEnd', t.day(60), 'forecastStart', CASE WHEN random() < 0.9 THEN t.day() END,
			'forecastEnd', CASE WHEN random() < 0.9 THEN t.day(60) END, 'actualStart', t.day(), 'actualEnd', t.day(60),
			'isActualized', random() < 0.3, 'isDiscontinued', random() < 0.1, 'isFundsTransferable', random() < 0.5,
			'pemsVersion', t.pick('v1', 'v2')) AS d) x $$;
	CREATE FUNCTION t.delta() RETURNS jsonb LANGUAGE sql VOLATILE AS $$
		SELECT jsonb_object_agg(key, value) FROM (SELECT key, value FROM jsonb_each(t.record('x'))
			WHERE key IN ('category', 'class', 'source', 'dor', 'manufacturer', 'model', 'monthlyRate', 'purchasePrice',
				'forecastStart', 'forecastEnd', 'isDiscontinued', 'isFundsTransferable')
			ORDER BY random() LIMIT 1 + floor(random() * 3)::int) x $$;
	INSERT INTO pfa_mirror (organization_id, pfa_id, data)
		SELECT o, id, t.record(id) FROM unnest('{A,B}'::text[]) o, LATERAL (SELECT o || i AS id FROM generate_series(1, 150) i) x;

	-- The recomputation: layers over the mirror by ||, costs by SQL.
	CREATE FUNCTION t.merged(org text, me text) RETURNS TABLE (id text, data jsonb, state text, by text) LANGUAGE sql STABLE AS $$
		WITH layers AS (
			SELECT m.*, sync_state = 'synced' AS done FROM pfa_modification m
			WHERE organization_id = org AND (sync_state <> 'modified' OR user_id = me)),
		ranked AS (SELECT *, row_number() OVER (PARTITION BY pfa_id ORDER BY sync_state = 'modified', committed_at, modification_id) AS n FROM layers),
		top AS (SELECT DISTINCT ON (pfa_id) pfa_id, sync_state, user_id FROM ranked ORDER BY pfa_id, done, n DESC),
		change AS (SELECT pfa_id, jsonb_object_agg(key, value ORDER BY n) AS delta FROM ranked, jsonb_each(delta) WHERE NOT done GROUP BY 1),
		plain AS (SELECT m.pfa_id, m.data || coalesce(c.delta, '{}') AS d, coalesce(c.delta, '{}') AS delta,
				coalesce(t.sync_state, 'pristine') AS state, t.user_id
			FROM pfa_mirror m LEFT JOIN change c USING (pfa_id) LEFT JOIN top t USING (pfa_id) WHERE m.organization_id = org)
		SELECT pfa_id, d
			|| CASE WHEN delta ?| '{source,monthlyRate,purchasePrice,originalStart,originalEnd}' THEN jsonb_build_object('planCost', t.cost(d, 'original', true)) ELSE '{}' END
			|| CASE WHEN delta ?| '{source,monthlyRate,purchasePrice,forecastStart,forecastEnd}' THEN jsonb_build_object('forecastCost', t.cost(d, 'forecast', true)) ELSE '{}' END
			|| CASE WHEN delta ?| '{source,monthlyRate,purchasePrice,actualStart,actualEnd,isActualized}'
				THEN jsonb_build_object('actualCost', t.cost(d, 'actual', (d->>'isActualized')::boolean)) ELSE '{}' END,
			state, user_id FROM plain $$;

	-- One combination; returns what is wrong, or nothing.
	CREATE FUNCTION t.check_one(org text, me text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		filters jsonb := '{}'; condition text := 'true'; key text; val text; vals text[]; sort_by text; sort_order text;
		size int; answer jsonb; cursor text; got jsonb := '[]'; want jsonb; total bigint; pages int := 0; order_by text; kind text;
	BEGIN
		FOREACH key IN ARRAY '{category,class,dor,source,areaSilo,manufacturer,model}'::text[] LOOP
			CONTINUE WHEN random() < 0.85;
			vals := ARRAY(SELECT DISTINCT coalesce(m.data->>key, 'none') FROM pfa_mirror m ORDER BY 1 LIMIT 1 + floor(random() * 3)::int);
			filters := filters || jsonb_build_object(key, CASE WHEN cardinality(vals) = 1 AND random() < 0.5 THEN to_jsonb(vals[1]) ELSE to_jsonb(vals) END);
			condition := condition || format(' AND data->>%L = ANY (%L::text[])', key, vals);
		END LOOP;
		FOREACH key IN ARRAY '{isActualized,isDiscontinued,isFundsTransferable}'::text[] LOOP
			CONTINUE WHEN random() < 0.8;
			val := t.pick('true', 'false');
			filters := filters || jsonb_build_object(key, val::boolean);
			condition := condition || format(' AND coalesce((data->>%L)::boolean, false) = %L', key, val);
		END LOOP;
		IF random() < 0.15 THEN
			val := t.day();
			filters := filters || jsonb_build_object('forecastFrom', val);
			condition := condition || format($c$ AND data->>'forecastStart' >= %L COLLATE "C"$c$, val);
		END IF;
		IF random() < 0.15 THEN
			val := t.day(60);
			filters := filters || jsonb_build_object('forecastTo', val);
			condition := condition || format($c$ AND data->>'forecastEnd' <= %L COLLATE "C"$c$, val);
		END IF;
		IF random() < 0.15 THEN
			val := t.pick('crane', 'GRÖßE', 'a1', 'Über', '2025-02', 'x', 'purchase');
			filters := filters || jsonb_build_object('searchText', val);
			condition := condition || format($c$ AND EXISTS (SELECT FROM jsonb_each(data) e WHERE jsonb_typeof(value) = 'string'
				AND strpos(lower(value #>> '{}'), lower(%L)) > 0)$c$, val);
		END IF;
		IF random() < 0.2 THEN
			vals := ARRAY[t.pick('pristine', 'modified'), t.pick('modified', 'pending_sync', 'synced', 'conflict', 'error', 'syncing')];
			filters := filters || jsonb_build_object('syncState', vals);
			condition := condition || format(' AND state = ANY (%L::text[])', vals);
		END IF;
		sort_by := CASE WHEN random() < 0.3 THEN 'pfaId' ELSE t.pick('category', 'class', 'source', 'manufacturer', 'model', 'pemsVersion', 'monthlyRate',
			'purchasePrice', 'planCost', 'forecastCost', 'actualCost', 'originalStart', 'forecastStart', 'forecastEnd', 'actualEnd', 'isDiscontinued', 'isFundsTransferable') END;
		sort_order := t.pick('asc', 'desc');
		size := t.pick('1', '2', '7', '50', '149', '150', '1000')::int;
		kind := CASE WHEN sort_by ~ '(Rate|Price|Cost)$' THEN '::numeric' WHEN sort_by ~ '^is' THEN '::boolean' ELSE '' END;
		order_by := CASE WHEN sort_by = 'pfaId' THEN format('id COLLATE "C" %s', sort_order)
			ELSE format('(data->>%L)%s %s NULLS LAST, id COLLATE "C"', sort_by, kind, sort_order) END;
		EXECUTE format($q$SELECT coalesce(jsonb_agg(jsonb_build_object('pfaId', id, 'data', data, 'syncState', state, 'modifiedBy', by) ORDER BY %s), '[]'), count(*)
			FROM t.merged(%L, %L) WHERE %s$q$, order_by, org, me, condition) INTO want, total;
		LOOP
			answer := pfa_get(org, filters, size, cursor, sort_by, sort_order);
			got := got || coalesce((SELECT jsonb_agg(e - 'modifiedAt' ORDER BY n) FROM jsonb_array_elements(answer->'data') WITH ORDINALITY x (e, n)), '[]');
			IF (answer #>> '{pagination,totalRecords}')::bigint <> total THEN
				RETURN format('total %s instead of %s: %s', answer #>> '{pagination,totalRecords}', total, filters);
			END IF;
			cursor := answer #>> '{pagination,nextCursor}';
			IF jsonb_array_length(answer->'data') <> size AND cursor IS NOT NULL THEN RETURN 'short page: ' || filters; END IF;
			EXIT WHEN cursor IS NULL;
			pages := pages + 1;
			IF pages > 1000 THEN RETURN 'no end: ' || filters; END IF;
		END LOOP;
		IF got <> want THEN
			RETURN format('%s by %s %s, pages of %s, as %s: got %s, want %s', filters, sort_by, sort_order, size, me,
				(SELECT string_agg(e->>'pfaId' || ':' || (e->>'syncState'), ' ' ORDER BY n) FROM jsonb_array_elements(got) WITH ORDINALITY x (e, n)),
				(SELECT string_agg(e->>'pfaId' || ':' || (e->>'syncState'), ' ' ORDER BY n) FROM jsonb_array_elements(want) WITH ORDINALITY x (e, n)));
		END IF;
		-- the document is sound as a jsonb, too
		IF answer::text::jsonb <> answer OR length(answer::text) < 10 THEN RETURN 'unsound jsonb'; END IF;
		RETURN NULL;
	END $$;
	CREATE FUNCTION t.check_view(me text) RETURNS bigint LANGUAGE sql AS $$
		SELECT count(*) FROM unnest('{A,B}'::text[]) o, LATERAL (
			SELECT FROM t.merged(o, me) m
				FULL JOIN (SELECT * FROM pfa_merged_live WHERE organization_id = o) v ON v.pfa_id = m.id
			WHERE (m.data, m.state, m.by) IS DISTINCT FROM (v.data, v.sync_state, v.modified_by)
				OR v.plan_cost IS DISTINCT FROM (m.data->>'planCost')::numeric OR v.category IS DISTINCT FROM m.data->>'category'
				OR v.is_discontinued IS DISTINCT FROM (m.data->>'isDiscontinued')::boolean
				OR to_char(v.forecast_end, 'YYYY-MM-DD') IS DISTINCT FROM m.data->>'forecastEnd') x $$;
	CREATE FUNCTION t.check_records(me text) RETURNS bigint LANGUAGE sql AS $$
		SELECT count(*) FROM unnest('{A,B}'::text[]) o, LATERAL (SELECT FROM t.merged(o, me) m, pfa_record(o, m.id) r
			WHERE r - 'modifiedAt' IS DISTINCT FROM jsonb_build_object('pfaId', m.id, 'data', m.data, 'syncState', m.state, 'modifiedBy', m.by)) x $$;

	-- What goes on meanwhile.
	CREATE PROCEDURE t.act(seed int, n int) LANGUAGE plpgsql AS $$
	DECLARE
		org text; id text; who text;
	BEGIN
		PERFORM setseed((seed % 1000) / 1000.0);
		FOR i IN 1..n LOOP
			org := t.pick('A', 'B'); id := org || (1 + floor(random() * 155)::int); who := t.pick('ann', 'bob', 'cid');
			PERFORM set_config('pfa_vanguard.user_id', who, true);
			BEGIN
				CASE floor(random() * 16)::int
				WHEN 0, 1, 2, 3, 4, 5, 6, 7 THEN
					PERFORM pfa_draft(org, (SELECT jsonb_agg(jsonb_build_object('pfaId', p, 'delta', t.delta())) FROM (
						SELECT pfa_id AS p FROM pfa_mirror WHERE organization_id = org ORDER BY random() LIMIT 3) x));
				WHEN 8 THEN PERFORM pfa_discard(org, pfa_ids => ARRAY(SELECT org || j FROM generate_series(1, 150, 3) j));
				WHEN 9 THEN PERFORM pfa_commit(org);
				WHEN 10 THEN UPDATE pfa_modification SET sync_state = t.pick('syncing', 'synced', 'conflict', 'error', 'pending_sync')
					WHERE modification_id IN (SELECT modification_id FROM pfa_modification WHERE sync_state <> 'modified'
						ORDER BY modification_id LIMIT 20 FOR UPDATE SKIP LOCKED);
				WHEN 11 THEN DELETE FROM pfa_modification WHERE modification_id IN (SELECT modification_id FROM pfa_modification
					WHERE sync_state <> 'modified' ORDER BY modification_id LIMIT 5 FOR UPDATE SKIP LOCKED);
				WHEN 12 THEN DELETE FROM pfa_mirror WHERE organization_id = org AND pfa_id = id;
				WHEN 13 THEN INSERT INTO pfa_mirror (organization_id, pfa_id, data) VALUES (org, id, t.record(id)) ON CONFLICT DO NOTHING;
				ELSE UPDATE pfa_mirror SET data = t.record(id) WHERE organization_id = org AND pfa_id = id;
				END CASE;
			EXCEPTION
				-- a random period may end before it starts, a record may have gone
				WHEN check_violation OR undefined_object OR no_data_found THEN NULL;
			END;
			COMMIT;
		END LOOP;
	END $$;
});

# Some history before the first comparison.
$node->safe_psql($db, "CALL t.act($seed, 300)");

my ($problems, $view, $records, $checked, @failed) = ('', 0, 0, 0);
for my $round (1 .. $rounds)
{
	my @actors;

	for my $i (1 .. 2)
	{
		my ($out, $err) = ('', '');
		push @actors, [ IPC::Run::start(
				[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db), '-c',
					'CALL t.act(' . ($seed + $round * 10 + $i) . ', 60)' ],
				'>', \$out, '2>', \$err), \$err ];
	}
	# Each user in a snapshot of its own, in which both sides are computed.
	for my $user (qw(ann bob dan))
	{
		my $out = $node->safe_psql($db, qq{
			BEGIN ISOLATION LEVEL REPEATABLE READ;
			SET LOCAL pfa_vanguard.user_id = '$user';
			SELECT setseed(} . (($seed + $round) % 1000 / 1000) . qq{) IS NULL;
			SELECT coalesce(string_agg(t.check_one(o, '$user'), E'\\n'), '') FROM unnest('{A,B}'::text[]) o, generate_series(1, 17) i;
			SELECT 'view ' || t.check_view('$user');
			SELECT 'records ' || t.check_records('$user');
			COMMIT;});
		$checked += 34;
		$view += $1 if $out =~ /^view (\d+)$/m;
		$records += $1 if $out =~ /^records (\d+)$/m;
		$problems .= join("\n", grep { !/^(f|t|view \d+|records \d+|)$/ } split /\n/, $out);
	}
	for my $actor (@actors)
	{
		$actor->[0]->finish;
		push @failed, ${ $actor->[1] } if $actor->[0]->result(0) != 0;
	}
	last if $problems ne '';
}
is(substr($problems, 0, 3000), '', "$checked combinations: pfa_get equals the recomputation");
is($view, 0, 'pfa_merged_live equals it');
is($records, 0, 'pfa_record equals it');
is(join('', @failed), '', 'nothing that went on meanwhile failed');
unlike(slurp_file($node->logfile), qr/deadlock detected|terminated by signal/, 'no deadlock, no crash');
$node->stop;
done_testing();
