# The cache is never stale
#  - each of many answers, read beside writes in all ways, is the very one that
#    the same statement computes without the cache, and lies between the last
#    version that was committed before the call and the last one begun
#  - so with shared memory, with Redis, and with a Redis that is killed,
#    stopped (SIGSTOP), flushed, filled with rubbish and full
#  - no call fails for it
# PFA_CACHE_READS: reads a reader and round, 3000 by default.
use strict;
use warnings;
use PfaTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

plan skip_all => 'no redis-server' if system('which redis-server > /dev/null 2>&1') != 0;

my $reads = $ENV{PFA_CACHE_READS} // 3000;
my @orgs = ('RIO', 'NYC', 'a:b');
my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $redis;

sub start_redis
{
	$redis = fork();
	if ($redis == 0)
	{
		open STDOUT, '>>', "$dir/redis.log";
		exec 'redis-server', '--port', '0', '--unixsocket', "$dir/s", '--save', '',
		  '--appendonly', 'no', '--dir', $dir;
		exit 1;
	}
	for (1 .. 1200)
	{
		return if `redis-cli -s $dir/s ping 2>/dev/null` =~ /PONG/;
		usleep(50_000);
	}
	die 'redis does not start';
}

sub stop_redis
{
	my ($signal) = @_;
	kill $signal, $redis;
	waitpid $redis, 0 if $signal eq 'KILL' || $signal eq 'TERM';
	$redis = 0 if $signal eq 'KILL' || $signal eq 'TERM';
}

END
{
	my $status = $?;
	if ($redis) { kill 'CONT', $redis; kill 'KILL', $redis; waitpid $redis, 0; }
	$? = $status;
}

my $node = new_server('main', conf => qq{
	max_prepared_transactions = 10
	max_connections = 50
	pfa_vanguard.cache_size = 2MB
	pfa_vanguard.redis_url = '$dir/s'
});

# ---- organizations, versions, readers and writers ----

$node->safe_psql('postgres', q{
	CREATE TABLE wrong (at timestamptz DEFAULT clock_timestamp(), org text, who text, level text, what text, cached jsonb, computed jsonb);
	CREATE TABLE line (org text PRIMARY KEY);

	-- Versions: begun is the last that a writer took, done the last of which a
	-- writer has seen the commit.  Sequences, as these show at once.
	CREATE FUNCTION last_of(kind text, org text, OUT v bigint) LANGUAGE plpgsql AS $$
	BEGIN EXECUTE format('SELECT last_value FROM %I', kind || ' ' || org) INTO v; END $$;
	CREATE PROCEDURE publish(org text, v bigint) LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_lock(hashtext(org));
		PERFORM setval(format('%I', 'done ' || org)::regclass, greatest(v, last_of('done', org)));
		PERFORM pg_advisory_unlock(hashtext(org));
	END $$;
	-- In the order of commits: who holds the line is the only writer of it.
	CREATE FUNCTION begin_version(o text) RETURNS bigint LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM 1 FROM line WHERE org = o FOR UPDATE;
		RETURN nextval(format('%I', 'begun ' || o)::regclass);
	END $$;
	CREATE FUNCTION version_data(v bigint) RETURNS jsonb LANGUAGE sql
		AS $$SELECT jsonb_build_object('pfaId', 'A', 'category', 'C' || v % 3, 'description', v::text)$$;

	CREATE PROCEDURE reads(orgs text[], n int, backend text, who text) LANGUAGE plpgsql AS $$
	DECLARE
		o text;
		level text;
		lower bigint;
		upper bigint;
		cached jsonb;
		computed jsonb;
		set text;
		stored text;
		v bigint;
		call int;
	BEGIN
		FOR i IN 1 .. n LOOP
			o := orgs[1 + floor(random() * array_length(orgs, 1))];
			level := (ARRAY['READ COMMITTED', 'READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'])[1 + floor(random() * 5)];
			PERFORM set_config('default_transaction_isolation', lower_case, false) FROM lower(level) AS lower_case;
			COMMIT;
			PERFORM set_config('pfa_vanguard.user_id', who, true);
			PERFORM set_config('pfa_vanguard.cache_backend', backend, true);
			-- does not take the transaction's snapshot in READ COMMITTED; in the
			-- others it does, and then the lower bound is the one before
			IF level = 'READ COMMITTED' THEN
				lower := last_of('done', o);
			ELSE
				lower := 0;
			END IF;
			FOR again IN 0 .. 2 LOOP
				PERFORM set_config('pfa_vanguard.cache_backend', backend, true);
				call := floor(random() * 5);
				-- the calls of one statement have one snapshot
				IF call = 0 THEN
					SELECT pfa_get(o, page_size => 10), set_config('pfa_vanguard.cache_backend', 'off', true), pfa_get(o, page_size => 10),
						(SELECT data ->> 'description' FROM pfa_mirror WHERE organization_id = o AND pfa_id = 'A')
						INTO cached, set, computed, stored;
				ELSIF call = 1 THEN
					SELECT pfa_get(o, '{"category": ["C0", "C1"]}', 10), set_config('pfa_vanguard.cache_backend', 'off', true), pfa_get(o, '{"category": ["C0", "C1"]}', 10)
						INTO cached, set, computed;
				ELSIF call = 2 THEN
					SELECT pfa_organization_config(o), set_config('pfa_vanguard.cache_backend', 'off', true), pfa_organization_config(o)
						INTO cached, set, computed;
				ELSIF call = 3 THEN
					SELECT pfa_stats(o), set_config('pfa_vanguard.cache_backend', 'off', true), pfa_stats(o)
						INTO cached, set, computed;
				ELSE
					SELECT pfa_permissions(), set_config('pfa_vanguard.cache_backend', 'off', true), pfa_permissions()
						INTO cached, set, computed;
				END IF;
				IF cached IS DISTINCT FROM computed THEN
					INSERT INTO wrong VALUES (DEFAULT, o, who, level, 'differs, call ' || call, cached, computed);
				END IF;
				IF call = 0 THEN
					v := cached #>> '{data,0,data,description}';
					upper := last_of('begun', o);
					IF v IS DISTINCT FROM stored::bigint OR v < lower OR v > upper THEN
						INSERT INTO wrong VALUES (DEFAULT, o, who, level, format('version %s, stored %s, bounds %s to %s', v, stored, lower, upper), cached, computed);
					END IF;
				END IF;
			END LOOP;
		END LOOP;
		COMMIT;
	END $$;

	CREATE PROCEDURE writes(orgs text[]) LANGUAGE plpgsql AS $$
	DECLARE
		o text;
		v bigint;
		way int;
	BEGIN
		WHILE EXISTS (SELECT FROM running) LOOP
			o := orgs[1 + floor(random() * array_length(orgs, 1))];
			COMMIT;
			v := begin_version(o);
			way := floor(random() * 9);
			IF way = 0 THEN
				UPDATE pfa_mirror SET data = version_data(v) WHERE organization_id = o AND pfa_id = 'A';
			ELSIF way = 1 THEN
				DELETE FROM pfa_mirror WHERE organization_id = o AND pfa_id = 'A';
				INSERT INTO pfa_mirror (organization_id, data) VALUES (o, version_data(v));
			ELSIF way = 2 THEN
				INSERT INTO pfa_mirror (organization_id, data) VALUES (o, version_data(v))
					ON CONFLICT (organization_id, pfa_id) DO UPDATE SET data = excluded.data;
			ELSIF way = 3 THEN
				MERGE INTO pfa_mirror m USING (VALUES (o)) x (org) ON m.organization_id = x.org AND m.pfa_id = 'A'
					WHEN MATCHED THEN UPDATE SET data = version_data(v);
			ELSIF way = 4 THEN
				DELETE FROM pfa_mirror WHERE organization_id = o AND pfa_id = 'A';
				EXECUTE format($c$COPY pfa_mirror (organization_id, data) FROM PROGRAM 'printf ''%s\t{"pfaId": "A", "category": "C%s", "description": "%s"}\n'''$c$, o, v % 3, v);
			ELSIF way = 5 THEN
				-- a subtransaction that goes, and one that stays
				BEGIN
					UPDATE pfa_mirror SET data = version_data(0) WHERE organization_id = o AND pfa_id = 'A';
					RAISE division_by_zero;
				EXCEPTION WHEN division_by_zero THEN
					UPDATE pfa_mirror SET data = version_data(v) WHERE organization_id = o AND pfa_id = 'A';
				END;
			ELSIF way = 6 THEN
				UPDATE pfa_mirror SET data = version_data(v) WHERE organization_id = o AND pfa_id = 'A';
				PERFORM pfa_get(o, page_size => 10);
				ROLLBACK;
				CONTINUE;
			ELSIF way = 7 THEN
				UPDATE pfa_mirror SET data = version_data(v) WHERE organization_id = o AND pfa_id = 'A';
				UPDATE pfa_mirror SET data = data || jsonb_build_object('description', v) WHERE organization_id = o AND pfa_id <> 'A';
				UPDATE pfa_sync_state SET last_success_at = clock_timestamp() WHERE organization_id = o;
			ELSE
				UPDATE pfa_mirror SET data = version_data(v) WHERE organization_id = o AND pfa_id = 'A';
				UPDATE pfa_organization SET sync_interval = make_interval(secs => 100 + v) WHERE organization_id = o;
				UPDATE pfa_user_organization SET role = CASE role WHEN 'editor' THEN 'admin' ELSE 'editor' END WHERE organization_id = o;
			END IF;
			COMMIT;
			CALL publish(o, v);
			COMMIT;
			PERFORM pg_sleep(0.002);
			COMMIT;
		END LOOP;
	END $$;

	-- Drafts of users, kept, committed, discarded; and what write-back does.
	CREATE PROCEDURE drafts(orgs text[], users text[]) LANGUAGE plpgsql AS $$
	DECLARE
		o text;
		n int := 0;
		way int;
	BEGIN
		WHILE EXISTS (SELECT FROM running) LOOP
			n := n + 1;
			o := orgs[1 + floor(random() * array_length(orgs, 1))];
			COMMIT;
			PERFORM set_config('pfa_vanguard.user_id', users[1 + floor(random() * array_length(users, 1))], true);
			way := floor(random() * 8);
			IF way < 4 THEN
				PERFORM pfa_draft(o, jsonb_build_array(jsonb_build_object('pfaId', 'B' || n % 3, 'delta', jsonb_build_object('manufacturer', 'M' || n, 'category', 'C' || n % 3))));
			ELSIF way = 4 THEN
				PERFORM pfa_commit(o);
			ELSIF way = 5 THEN
				PERFORM pfa_discard(o, discard_all => true);
			ELSIF way = 6 THEN
				PERFORM pfa_draft(o, '[{"pfaId": "B1", "delta": {"manufacturer": "undone"}}]');
				ROLLBACK;
			ELSE
				DELETE FROM pfa_modification WHERE organization_id = o AND sync_state <> 'modified';
			END IF;
			COMMIT;
			PERFORM pg_sleep(0.005);
			COMMIT;
		END LOOP;
	END $$;
	CREATE TABLE running (x int);
});
for my $org (@orgs)
{
	$node->safe_psql('postgres', qq{
		CREATE SEQUENCE "begun $org";
		CREATE SEQUENCE "done $org" MINVALUE 0;
		INSERT INTO line VALUES ('$org');
		INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval, paused, system_identifier, database_oid)
			VALUES ('$org', 'X', 'none', current_user, '1 day', true, 0, 0);
		INSERT INTO pfa_sync_state (organization_id, next_sync_at) VALUES ('$org', now());
		INSERT INTO pfa_mirror (organization_id, data) VALUES ('$org', version_data(nextval('"begun $org"')));
		INSERT INTO pfa_mirror (organization_id, data) SELECT '$org', jsonb_build_object('pfaId', 'B' || i, 'category', 'C' || i % 3, 'description', '') FROM generate_series(0, 4) i;
		INSERT INTO pfa_user_organization SELECT u, '$org', 'editor' FROM unnest('{ann,ben,cyd}'::text[]) u;
	});
}
my $list = "'{" . join(',', map { "\"$_\"" } @orgs) . "}'::text[]";

# A piece of SQL for a session: versions by prepared transactions, some of which
# are rolled back.
sub two_phase
{
	my ($name, $n) = @_;
	my $sql = '';
	for my $i (1 .. $n)
	{
		my $org = $orgs[ int(rand(@orgs)) ];
		my $end = rand() < 0.3 ? 'ROLLBACK' : 'COMMIT';
		$sql .= qq{
			BEGIN;
			SELECT begin_version('$org') AS v \\gset
			UPDATE pfa_mirror SET data = version_data(:v) WHERE organization_id = '$org' AND pfa_id = 'A';
			PREPARE TRANSACTION '$name $i';
			SELECT pg_sleep(0.003);
			$end PREPARED '$name $i';
		};
		$sql .= "CALL publish('$org', :v);\n" if $end eq 'COMMIT';
	}
	return $sql;
}

# One round: readers beside writers; meanwhile is called while they are at it.
sub round_of
{
	my ($name, $backend, $meanwhile) = @_;
	my @users = ('ann', 'ben', 'cyd', 'ann');
	my $before = $node->safe_psql('postgres', "SELECT hits FROM pfa_cache_stats WHERE keyspace = 'all'");
	my $errors = log_lines($node, 'ERROR: ');

	$node->safe_psql('postgres', 'TRUNCATE wrong; INSERT INTO running VALUES (1)');
	my @writers = map { session($node, 'postgres') } 1 .. 3;
	$writers[0]->start("SET pfa_vanguard.cache_backend = $backend; CALL writes($list)");
	$writers[1]->start("CALL writes($list)");
	$writers[2]->start("CALL drafts($list, '{ann,ben}')");
	my $prepared = session($node, 'postgres');
	$prepared->start(two_phase($name, 100));
	my @readers = map { session($node, 'postgres') } @users;
	$readers[$_]->start("CALL reads($list, $reads, '$backend', '$users[$_]')") for 0 .. $#users;
	$meanwhile->() if $meanwhile;
	is($_->result, '', "$name: no reader fails") for @readers;
	like($prepared->result, qr/^\s*$/, "$name: no prepared transaction fails");
	$node->safe_psql('postgres', 'DELETE FROM running');
	is($_->result, '', "$name: no writer fails") for @writers;
	$_->close for @readers, @writers, $prepared;

	is($node->safe_psql('postgres', 'SELECT * FROM wrong ORDER BY at LIMIT 3'), '', "$name: no answer is wrong");
	my $hits = $node->safe_psql('postgres', "SELECT hits FROM pfa_cache_stats WHERE keyspace = 'all'") - $before;
	note("$name: ", 3 * $reads * @users, " reads, $hits hits");
	is(log_lines($node, 'ERROR: ') - $errors, 0, "$name: no error in the log");
	return $hits;
}

my $total = 3 * $reads * 4;
cmp_ok(round_of('shared memory', 'shared_memory'), '>', $total / 4, 'shared memory: a fair part were hits');

start_redis();
cmp_ok(round_of('redis', 'redis'), '>', $total / 8, 'redis: a fair part were hits');

# What a reader of plain JSON finds after the last change is what is stored.
for my $org (@orgs)
{
	(my $name = $org) =~ s/:/%3A/;
	$node->safe_psql('postgres', "SET pfa_vanguard.cache_backend = redis; SELECT pfa_get('$org')");
	my $plain = `redis-cli -s $dir/s get pfa:$name:data`;
	chomp $plain;
	is($node->safe_psql('postgres', "SET pfa_vanguard.cache_backend = off; SELECT pfa_get('$org')"), $plain, "$org: plain JSON under the specified key");
	$node->safe_psql('postgres', "UPDATE pfa_mirror SET data = data || '{\"x\": 1}' WHERE organization_id = '$org'");
	is(`redis-cli -s $dir/s exists pfa:$name:data`, "0\n", "$org: and gone with the commit of a change");
}

round_of('redis in trouble', 'redis', sub {
	for my $i (1 .. 3)
	{
		usleep(300_000);
		stop_redis('KILL');
		usleep(300_000);
		start_redis();
		usleep(1_000_000);
		stop_redis('STOP');
		usleep(400_000);
		kill 'CONT', $redis;
		usleep(1_000_000);
		system("redis-cli -s $dir/s flushall > /dev/null");
		# flips, exchanges, wrong types
		system(qq{redis-cli -s $dir/s eval "local last = 'x' for _, k in ipairs(redis.call('keys', '*sealed')) do local v = redis.call('get', k) redis.call('set', k, last) last = v end return 1" 0 > /dev/null});
		system(qq{redis-cli -s $dir/s eval "for _, k in ipairs(redis.call('keys', '*sealed')) do redis.call('setrange', k, 70 + $i, 'X') end return 1" 0 > /dev/null});
		usleep(200_000);
		system(qq{redis-cli -s $dir/s eval "for _, k in ipairs(redis.call('keys', '*')) do redis.call('del', k) redis.call('lpush', k, 'x') end return 1" 0 > /dev/null});
		system("redis-cli -s $dir/s config set maxmemory 1 > /dev/null");
		usleep(300_000);
		system("redis-cli -s $dir/s config set maxmemory 0 > /dev/null");
		system("redis-cli -s $dir/s replicaof 127.0.0.1 1 > /dev/null");
		usleep(300_000);
		system("redis-cli -s $dir/s replicaof no one > /dev/null");
	}
});
is(log_lines($node, 'PANIC|terminated by signal|TRAP'), 0, 'nothing crashed');
$node->stop;
done_testing();
