# A database that finds itself copied leaves PEMS alone:
#  - CREATE DATABASE ... TEMPLATE, and pg_dump with restore into the same
#    cluster or another one: state "copy", which it explains, and no request to
#    PEMS, not even when asked for
#  - the mirror is there and can be read
#  - pfa_adopt_database() has it sync by itself, and only then
#  - renaming a database, or moving it, is no copying
# A restored database syncs from the state of the dump without duplicates.
use strict;
use warnings;
use PfaTest;
use Test::More;

my $node = new_server('main');
my $other = new_server('other', extension => 0);
my $sim = simulator('--orgs', 'RIO:2000,LIMA:1000', '--seed', '31');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';

$node->safe_psql('postgres', 'CREATE DATABASE original');
$node->safe_psql('original', 'CREATE EXTENSION pfa_vanguard');
add_source($node, 'original', $sim, 'pems', q{page_size '500'});
$node->safe_psql('original',
	"SELECT pfa_add_organization(o, 'pems', NULL, '1 day') FROM unnest('{RIO,LIMA}'::text[]) o");
ok(synced($node, 'original'), 'the original syncs');

# From now on each request is one too many.
sub requests
{
	return sim($sim, 'stats') =~ /"data":(\d+)/ ? $1 : undef;
}

sub is_copy
{
	my ($server, $db, $name) = @_;
	my $before = requests();

	ok(wait_for($server, 'postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pfa_vanguard scheduler $db'",
		15, '1'), "$name: it has a scheduler");
	is(value($server, $db, q{SELECT count(*), string_agg(DISTINCT state || ': ' || reason, ';') FROM pfa_sync_status}),
		'2|copy: this database is a copy, pfa_adopt_database() lets it sync', "$name: it says that it is a copy");
	my ($rc, $out, $err) = $server->psql($db, q{SELECT pfa_sync_now('RIO')});
	like($err, qr/because this database is a copy.*HINT: .*pfa_adopt_database/s, "$name: does not sync on request");
	($rc, $out, $err) = $server->psql($db, q{CALL pfa_sync('RIO', 'force')});
	like($err, qr/because this database is a copy/, "$name: nor in the foreground");
	is(value($server, $db, 'SELECT count(*) FROM pfa_sync_now()'), '0', "$name: of all there are none");
	# Due at once, if it were not a copy: have the scheduler take two turns.
	for (1 .. 2)
	{
		my ($pid) = worker_pids($server, "pfa_vanguard scheduler $db");
		$server->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 5000)");
		ok(wait_for($server, 'postgres',
			"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pfa_vanguard scheduler $db'
			 AND pid <> $pid AND state = 'idle'", 15, '1'), "$name: the scheduler has looked");
	}
	is(requests(), $before, "$name: no request to PEMS");
	is(value($server, $db, q{SELECT count(*) FROM pfa_sync_run WHERE status = 'running'
			OR status = 'queued' AND attempt = 1}), '0',
		"$name: nothing runs, nothing new is queued");
}

sub adopt
{
	my ($server, $db, $name) = @_;
	my $before = requests();

	is(value($server, $db, 'SELECT pfa_adopt_database()'), '2', "$name: pfa_adopt_database()");
	is(value($server, $db, 'SELECT pfa_adopt_database()'), '0', "$name: is done once");
	unlike(value($server, $db, 'SELECT string_agg(state, $$ $$) FROM pfa_sync_status'), qr/copy/,
		"$name: no longer a copy");
}

# ---- CREATE DATABASE ... TEMPLATE ----

# In the middle of a run.
sim($sim, 'fault?kind=hang&after=1000');
my $run = value($node, 'original', q{SELECT pfa_sync_now('RIO', 'full')});
ok(wait_for($node, 'original', q{SELECT rows_seen >= 500 FROM pfa_sync_status WHERE state = 'running'}, 20),
	'a run hangs');
$node->safe_psql('postgres', 'CREATE DATABASE cloned TEMPLATE original');
sim($sim, 'clear');
is(value($node, 'original', "SELECT pfa_sync_wait($run, '30 s')"), 'completed', 'it completes in the original');
ok(wait_for($node, 'cloned', "SELECT status FROM pfa_sync_run WHERE run_id = $run", 20, 'queued'),
	'and waits in the copy');
# Overdue since yesterday.
$node->safe_psql('cloned', q{UPDATE pfa_sync_state SET next_sync_at = now() - interval '1 day'});
is_copy($node, 'cloned', 'TEMPLATE');
compare($node, 'cloned', $sim, $_, "TEMPLATE, $_") for qw(RIO LIMA);
sim($sim, 'change?org=RIO&count=100');
adopt($node, 'cloned', 'TEMPLATE');
ok(wait_for($node, 'cloned',
	q{SELECT count(*) = 4 AND bool_and(status = 'completed') FROM pfa_sync_run}, 20),
	'TEMPLATE, adopted: it syncs by itself');
is(value($node, 'cloned', "SELECT attempt FROM pfa_sync_run WHERE run_id = $run"), '2',
	'and has taken up the run that it was copied with');
# That did not read again what changed since.
is(run_sync($node, 'cloned', 'RIO'), 'completed', 'TEMPLATE, adopted: the next sync');
compare($node, 'cloned', $sim, $_, "TEMPLATE, adopted, $_") for qw(RIO LIMA);
is(value($node, 'original', 'SELECT DISTINCT state FROM pfa_sync_status'), 'idle',
	'the original is none the worse');

# ---- dump and restore ----

$node->command_ok(['pg_dump', '-f', $dump, '-d', $node->connstr('original')], 'pg_dump');
for my $server ($node, $other)
{
	my $name = $server->name;
	$server->safe_psql('postgres', 'CREATE DATABASE restored');
	$server->command_ok(['psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d',
		$server->connstr('restored')], "$name: restore");
	is_copy($server, 'restored', "$name, restored");
	is(value($server, 'restored', 'SELECT count(*) FROM pfa_mirror'), '3000', "$name: the mirror is there");
	adopt($server, 'restored', "$name, restored");
	ok(wait_for($server, 'restored',
		q{SELECT count(*) = 2 AND bool_and(status = 'completed') FROM pfa_sync_run}, 20),
		"$name, adopted: it syncs by itself");
	compare($server, 'restored', $sim, $_, "$name, adopted, $_") for qw(RIO LIMA);
	is(value($server, 'restored', q{SELECT sum(rows_inserted), sum(rows_updated), sum(rows_unchanged) FROM pfa_sync_run}),
		'0|100|2900', "$name: the restored mirror was taken for what it is");
}

# ---- not copies ----

$node->safe_psql('postgres', 'ALTER DATABASE original RENAME TO renamed');
is(run_sync($node, 'renamed', 'RIO'), 'completed', 'a renamed database is no copy');

$node->stop;
$other->stop;
done_testing();
