# Under random concurrent work (insert, update of sums and keys, delete, COPY,
# savepoints, two-phase commit, TRUNCATE) at every isolation level, with
# compaction and recounts of views beside it,
#  - pfa_kpi_verify() finds no difference at any moment, in any snapshot,
#  - nobody deadlocks, and no writer waits for a row of the KPI,
#  - a crash in the middle, by SIGKILL, changes none of it,
#  - deltas are compacted by themselves, prepared transactions or not.
use strict;
use warnings;
use IPC::Run;
use PfaTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{PFA_KPI_SECONDS} || 4;
# How long pgbench runs; the server's crash may end it sooner.
my $duration = $seconds;
my $node = new_server('main',
	conf => "max_prepared_transactions = 50\nmax_connections = 60\n"
	  . "synchronous_commit = off\nrestart_after_crash = on\n"
	  . "pfa_vanguard.view_refresh_interval = 1s\ndeadlock_timeout = 200ms\n");

# A few organizations, groups of few, so that everybody meets everybody.
$node->safe_psql('postgres', q{
	CREATE FUNCTION record(n int) RETURNS jsonb LANGUAGE sql AS $$
		SELECT jsonb_build_object('pfaId', 'P' || n,
			'category', (ARRAY['Cranes', 'Lifts', NULL])[1 + floor(random() * 3)::int],
			'source', (ARRAY['Rental', NULL])[1 + floor(random() * 2)::int],
			'dor', (ARRAY['PROJECT', 'BEO'])[1 + floor(random() * 2)::int],
			'planCost', CASE WHEN random() < 0.9 THEN round((random() * 1e6 - 5e5)::numeric, (random() * 4)::int) END,
			'forecastCost', round((random() * 1e6)::numeric, 2),
			'actualCost', CASE WHEN random() < 0.3 THEN (random() * 1e12)::numeric END,
			'monthlyRate', round((random() * 1e4)::numeric, (random() * 12)::int),
			'isDiscontinued', random() < 0.1, 'isActualized', random() < 0.3)
	$$;
	INSERT INTO pfa_mirror (organization_id, data)
		SELECT 'ORG' || i % 3, record(i) FROM generate_series(1, 3000) i;
});

# Serialization failures and conflicts of ids are part of the game.
my $dir = $node->basedir;
my %script = (
	insert => q{
		\set n random(3001, 4000)
		INSERT INTO pfa_mirror (organization_id, data)
			VALUES ('ORG' || :n % 3, record(:n)) ON CONFLICT DO NOTHING;
	},
	update => q{
		\set n random(1, 4000)
		UPDATE pfa_mirror SET data = record(:n) WHERE organization_id = 'ORG' || :n % 3 AND pfa_id = 'P' || :n;
	},
	delete => q{
		\set n random(1, 4000)
		DELETE FROM pfa_mirror WHERE organization_id = 'ORG' || :n % 3 AND pfa_id = 'P' || :n;
	},
	savepoints => q{
		\set n random(1, 4000)
		\set m random(1, 4000)
		BEGIN;
		UPDATE pfa_mirror SET data = record(:n) WHERE organization_id = 'ORG' || :n % 3 AND pfa_id = 'P' || :n;
		SAVEPOINT a;
		DELETE FROM pfa_mirror WHERE organization_id = 'ORG' || :n % 3 AND pfa_id = 'P' || :n;
		ROLLBACK TO a;
		INSERT INTO pfa_mirror (organization_id, data) VALUES ('ORGS', record(:client_id * 1000000 + :n)) ON CONFLICT DO NOTHING;
		RELEASE a;
		END;
	},
	# what a transaction sees of its own work, and of that of others
	own => q{
		\set n random(1, 4000)
		BEGIN;
		UPDATE pfa_mirror SET data = record(:n) WHERE organization_id = 'ORG' || :n % 3 AND pfa_id = 'P' || :n;
		SELECT count(*) FROM pfa_kpi_verify() \gset v_
		SELECT 1 / (:v_count = 0)::int;
		END;
	},
	rollback => q{
		\set n random(1, 4000)
		BEGIN;
		INSERT INTO pfa_mirror (organization_id, data) VALUES ('ORGR', record(:client_id * 1000000 + :n));
		DELETE FROM pfa_mirror WHERE organization_id = 'ORGR';
		ROLLBACK;
	},
	# its rows in one order: two such updates could deadlock by themselves
	bulk => q{
		\set n random(1, 40)
		WITH chosen AS MATERIALIZED (SELECT organization_id, pfa_id FROM pfa_mirror
			WHERE organization_id = 'ORGS' AND pfa_id LIKE '%' || :n ORDER BY pfa_id FOR UPDATE)
		UPDATE pfa_mirror m SET data = data || '{"planCost": 1.5}' FROM chosen
			WHERE m.organization_id = chosen.organization_id AND m.pfa_id = chosen.pfa_id;
	},
	compact => q{
		SELECT pfa_kpi_compact();
		\sleep 20 ms
	},
	verify => q{
		SELECT count(*) FROM pfa_kpi_verify() \gset v_
		SELECT 1 / (:v_count = 0)::int;
		\sleep 20 ms
	},
);
for my $name (keys %script)
{
	append_to_file("$dir/$name.sql", $script{$name});
}

# pgbench of some scripts; retries where the server says so.
sub pgbench
{
	my ($level, $clients, @names) = @_;
	my $options = "-c default_transaction_isolation=" . ($level =~ s/ /\\ /r);
	local $ENV{PGOPTIONS} = $options;
	return IPC::Run::start(
		[   'pgbench', '-n', '-T', $duration, '-c', $clients, '-j', 1,
			'--max-tries=200', '-h', $node->host, '-p', $node->port,
			'-M', 'prepared', map({ ('-f', "$dir/$_.sql@" . ($_ eq 'own' ? 1 : 20)) } @names), 'postgres' ],
		'>', "$dir/pgbench.out.$level.$clients",
		'2>', "$dir/pgbench.err.$level.$clients");
}

sub no_differences
{
	my ($name) = @_;
	is($node->safe_psql('postgres', 'SELECT * FROM pfa_kpi_verify()'), '', $name);
}

sub errors_of
{
	my ($level, $clients) = @_;
	my $text = slurp_file("$dir/pgbench.err.$level.$clients");
	my @lines = grep { /ERROR|FATAL|aborted/ } split /\n/, $text;
	my ($done) = slurp_file("$dir/pgbench.out.$level.$clients") =~ /actually processed: (\d+)/;
	push @lines, 'nothing was done' unless $done;
	note "$level, $clients clients: $done transactions" if $done;
	return join("\n", @lines);
}

no_differences('at the beginning');

for my $level ('read committed', 'repeatable read', 'serializable')
{
	my @names = qw(insert update update delete savepoints rollback bulk own);
	my $bench = pgbench($level, 8, @names);
	my $other = pgbench('read committed', 3, 'compact', 'verify');
	my $copies = 0;
	my $end = time + $seconds;

	# COPY, and transactions that stay prepared while others go on
	while (time < $end)
	{
		$copies++;
		$node->psql('postgres', qq{
			COPY pfa_mirror (organization_id, data) FROM stdin;
COPY	{"pfaId": "$level $copies", "planCost": 1.25, "category": "Copied"}
\\.
			BEGIN;
			UPDATE pfa_mirror SET data = data || '{"planCost": 2}' WHERE organization_id = 'COPY' AND pfa_id = '$level $copies';
			PREPARE TRANSACTION '$level $copies';
		});
		if ($copies > 5)
		{
			my $old = $copies - 5;
			my $verb = $old % 2 ? 'COMMIT' : 'ROLLBACK';
			$node->psql('postgres', "$verb PREPARED '$level $old'");
		}
		no_differences("$level: $copies") if $copies % 10 == 0;
	}
	$bench->finish;
	$other->finish;
	is(errors_of($level, 8), '', "$level: writers fail for nothing");
	is(errors_of('read committed', 3), '', "$level: no snapshot of others saw a difference");
	cmp_ok($copies, '>', 0, "$level: transactions were prepared");
	no_differences("$level: at the end, with prepared transactions");
}

is( $node->safe_psql('postgres', q{
	SELECT count(*) FROM pg_stat_database WHERE datname = 'postgres' AND deadlocks > 0
}), 0, 'no deadlocks')
  or diag(join "\n", slurp_file($node->logfile) =~ /^.*deadlock detected.*\n(?:.*\n){0,12}/mg);

# A crash in the middle, with prepared transactions.
$duration = 300;
my $bench = pgbench('read committed', 8, qw(insert update delete savepoints bulk compact));
my $writers = q{SELECT pid FROM pg_stat_activity
	WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND query ~ 'pfa_mirror'
	AND query !~ 'pg_stat_activity'};
ok(wait_for($node, 'postgres', "SELECT count(*) > 3 FROM ($writers) w", 30), 'many write');
my ($backend) = split /\n/, $node->safe_psql('postgres', $writers);
kill 'KILL', $backend;
$bench->finish;
ok(wait_for($node, 'postgres', 'SELECT true', 30), 'the server is back after a crash');
no_differences('after a crash');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'),
	'>', 0, 'prepared transactions are there');
$node->safe_psql('postgres', "COMMIT PREPARED '$_'")
  for split /\n/, $node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts');
no_differences('after they were committed');

$bench = pgbench('read committed', 8, qw(insert update delete savepoints bulk compact));
ok(wait_for($node, 'postgres', "SELECT count(*) > 3 FROM ($writers) w", 30), 'many write again');
$node->stop('immediate');
$bench->finish;
$node->start;
no_differences('after an immediate shutdown');

# TRUNCATE among writers, and those who read.
$duration = $seconds;
$bench = pgbench('read committed', 4, qw(insert update delete));
my $readers = pgbench('read committed', 3, 'compact', 'verify');
for (1 .. 5)
{
	$node->safe_psql('postgres', q{
		BEGIN; TRUNCATE pfa_mirror;
		INSERT INTO pfa_mirror (organization_id, data)
			SELECT 'ORG' || i % 3, record(i) FROM generate_series(1, 100) i;
		COMMIT;
	});
	no_differences('after TRUNCATE');
	usleep(200_000);
}
$bench->finish;
$readers->finish;
is(errors_of('read committed', 4), '', 'TRUNCATE does not disturb writers');
is(errors_of('read committed', 3), '', 'TRUNCATE does not disturb readers');

ok( wait_for($node, 'postgres', 'SELECT count(*) FROM pfa_kpi_delta', 30, '0'),
	'deltas are compacted by themselves');
no_differences('after that');
# Two compactions at a time may each leave a row of one key, until the next one
# that touches the key.  In one transaction nobody else compacts what it touches.
$node->safe_psql('postgres', q{
	BEGIN;
	INSERT INTO pfa_kpi_delta SELECT DISTINCT organization_id, facet, 0, category, source, dor,
			is_actualized, is_discontinued, is_funds_transferable, 0, 0, 0, 0, ARRAY[]::bigint[] FROM pfa_kpi;
	SELECT pfa_kpi_compact();
	COMMIT;
});
no_differences('and after that');
is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM (SELECT FROM pfa_kpi
			GROUP BY organization_id, facet, category, source, dor, is_actualized, is_discontinued, is_funds_transferable
			HAVING count(*) > 1) AS d}), 0, 'one row a key is left');

done_testing();
