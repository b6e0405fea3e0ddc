# While a sync waits for PEMS, whether PEMS hangs, drips or is down,
#  - no process of ours has a transaction, a snapshot, or a lock on a relation
#  - VACUUM removes rows that were deleted meanwhile
#  - the sync shows under its organization's name with a wait event
#  - statistics reach pg_stat: n_tup_ins grows, autovacuum can see it
use strict;
use warnings;
use PfaTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_server('main', conf => "autovacuum = off\n");
my $sim = simulator('--orgs', 'RIO:3000,LIMA:3000,QUITO:3000', '--seed', '3');
my @orgs = qw(RIO LIMA QUITO);

setting($node, 'pfa_vanguard.max_concurrent_syncs', 3);
add_source($node, 'postgres', $sim, 'pems', q{page_size '500', timeout '60', max_retries '20'});
sim($sim, "fault?kind=$_") for 'hang&org=RIO', 'drip&n=200&ms=20&org=LIMA',
  'status&code=503&org=QUITO';
$node->safe_psql('postgres',
	"SELECT pfa_add_organization(o, 'pems') FROM unnest('{RIO,LIMA,QUITO}'::text[]) o");

ok(wait_for($node, 'postgres',
	"SELECT string_agg(application_name || ':' || wait_event_type, ' ' ORDER BY application_name)
	 FROM pg_stat_activity WHERE application_name LIKE 'pfa_vanguard sync%'", 20,
	'pfa_vanguard sync LIMA:Extension pfa_vanguard sync QUITO:Extension pfa_vanguard sync RIO:Extension'),
	'three syncs wait, each under its organization\'s name');

# ---- samples ----

my $session = session($node, 'postgres');
my ($samples, $waiting, $bad, $last) = (0, 0, '', '');
my $end = time + 5;
while (time < $end)
{
	# Processes that wait for the network, or for their next turn.
	my $row = $session->run(q{
		SELECT count(*), coalesce(string_agg(format('%s: %s %s %s %s, locks %s',
			application_name, state, xact_start, backend_xmin, backend_xid, locks), '; ')
			FILTER (WHERE xact_start IS NOT NULL OR backend_xmin IS NOT NULL
				OR backend_xid IS NOT NULL OR state <> 'idle' OR locks > 0), '')
		FROM (SELECT *, (SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid) AS locks
			FROM pg_stat_activity a) a
		WHERE backend_type LIKE 'pfa_vanguard%' AND wait_event_type = 'Extension'});
	my ($count, $text) = split /\|/, $row, 2;
	$samples++;
	$waiting += $count;
	# The columns are read one after the other, and a turn may just have begun:
	# what is held through a wait is there in the next sample, too.
	$bad ||= $text if $text eq $last;
	$last = $text;
}
is($bad, '', 'waiting processes hold no transaction, snapshot or lock');
cmp_ok($samples, '>', 50, "seen in $samples samples");
cmp_ok($waiting, '>', 3 * $samples, 'that saw the syncs waiting');

# ---- vacuum ----

$node->safe_psql('postgres', 'CREATE TABLE t AS SELECT generate_series(1, 1000) AS i');
$node->safe_psql('postgres', 'DELETE FROM t');
# A turn that just goes on may hold a snapshot, too; the syncs would each time.
my $removed = '';
for (1 .. 3)
{
	$removed .= $session->run('VACUUM (VERBOSE) t');
	last if $removed =~ /1000 removed, 0 remain/;
}
like($removed, qr/1000 removed, 0 remain/,
	'VACUUM removes rows that were deleted after the syncs began');

# ---- and then it goes on ----

sim($sim, 'clear');
ok(synced($node, 'postgres'), 'the syncs complete');
compare($node, 'postgres', $sim, $_, $_) for @orgs;
is(value($node, 'postgres',
	"SELECT string_agg(attempt::text, ' ') FROM pfa_sync_run"), '1 1 1',
	'in their first attempt');

# ---- statistics ----

ok(wait_for($node, 'postgres',
	"SELECT n_tup_ins >= 9000 AND n_live_tup = 9000 FROM pg_stat_all_tables WHERE relname = 'pfa_mirror'", 10),
	'n_tup_ins and n_live_tup of pfa_mirror');
sim($sim, "change?org=RIO&count=600");
sim($sim, "delete?org=LIMA&count=300");
is(run_sync($node, 'postgres', $_), 'completed', "$_ again") for qw(RIO LIMA);
ok(wait_for($node, 'postgres',
	"SELECT n_tup_upd >= 600 AND n_tup_del = 300 FROM pg_stat_all_tables
	 WHERE relname = 'pfa_mirror'", 10),
	'n_tup_upd and n_tup_del too');
ok(wait_for($node, 'postgres',
	"SELECT xact_commit > 10 AND tup_inserted > 9000 FROM pg_stat_database
	 WHERE datname = 'postgres'", 10), 'so do the statistics of the database');

$node->append_conf('postgresql.conf', "autovacuum = on\nautovacuum_naptime = 1\n");
$node->reload;
ok(wait_for($node, 'postgres',
	"SELECT autoanalyze_count > 0 FROM pg_stat_all_tables WHERE relname = 'pfa_mirror'",
	30), 'autovacuum analyzes the mirror');

$session->close;
$node->stop;
done_testing();
