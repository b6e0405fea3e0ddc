# Vanished records are removed, but never too many of them.
#
# - A run that would delete more than max_delete_fraction of an organization
#   fails, says what to do, and deletes nothing; "force" deletes.
# - So does one that would pass the fraction together with what the runs of the
#   last 24 hours deleted; forced ones do not count.
# - Records hidden by a permission are like deleted ones to us: the same guard.
# - While records are deleted, forced or rewritten for a new mapping, a reader
#   never sees fewer than are there before or after.
# - A record that goes and comes back is there again.
use strict;
use warnings;

use IPC::Run;
use PfaTest;
use Test::More;

my $sim = simulator('--orgs', 'RIO:400,DAY:400,HIDE:400,FEW:5,BIG:4000', '--seed', 8);
my $node = new_server('deletions');

add_source($node, 'postgres', $sim, 'pems', "page_size '100', max_retries '1'");
is(add_organizations($node, 'postgres', 'pems', qw(RIO DAY HIDE FEW BIG)), 'completed', 'first syncs');

sub sync
{
	my ($org, $mode) = @_;
	run_sync($node, 'postgres', $org, $mode // 'auto');
	return last_run($node, 'postgres', $org, "status || ' ' || rows_deleted");
}

sub rows
{
	my ($org) = @_;
	return value($node, 'postgres', "SELECT count(*) FROM pfa_mirror WHERE organization_id = '$org'");
}

# ---- one run ----

sim($sim, 'delete?org=RIO&count=80');
is(sync('RIO'), 'completed 80', 'a fifth may go');
compare($node, 'postgres', $sim, 'RIO', 'a fifth');

$node->safe_psql('postgres', "UPDATE pfa_sync_run SET finished_at = finished_at - interval '25 hours' WHERE organization_id = 'RIO'");
sim($sim, 'delete?org=RIO&count=70');
is(sync('RIO'), 'failed 0', 'more may not');
is(rows('RIO'), 320, 'and nothing goes');
like(last_run($node, 'postgres', 'RIO', 'error'),
	qr/^70 of 320 records are no longer in PEMS, more than pfa_vanguard.max_delete_fraction \(0.2\) allows/, 'it says so');
is(value($node, 'postgres', "SELECT count(*) FROM pfa_sync_vanished"), 0, 'no candidates are left behind');
sim($sim, 'insert?org=RIO&count=10');
is(sync('RIO'), 'failed 0', 'the next run finds the same');
is(rows('RIO'), 330, 'but new records arrive');
is(sync('RIO', 'force'), 'completed 70', 'force is the way on');
compare($node, 'postgres', $sim, 'RIO', 'forced');

sim($sim, 'delete?org=FEW&count=1');
is(sync('FEW'), 'completed 1', 'one of five');
sim($sim, 'delete?org=FEW&count=4');
is(sync('FEW'), 'failed 0', 'all that are left');
is(rows('FEW'), 4, 'an empty listing empties nothing');
is(sync('FEW', 'force'), 'completed 4', 'unless forced');

# ---- a day ----

sim($sim, 'delete?org=DAY&count=40');
is(sync('DAY'), 'completed 40', 'a tenth');
sim($sim, 'delete?org=DAY&count=36');
is(sync('DAY'), 'completed 36', 'and a tenth of the rest');
sim($sim, 'delete?org=DAY&count=10');
is(sync('DAY'), 'failed 0', 'and a little: that is too much for a day');
like(last_run($node, 'postgres', 'DAY', 'error'), qr/76 records were deleted in the last 24 hours/, 'it says so');
$node->safe_psql('postgres', "UPDATE pfa_sync_run SET finished_at = finished_at - interval '24 hours'
	WHERE organization_id = 'DAY' AND rows_deleted = 40");
is(sync('DAY'), 'completed 10', 'later that is a day ago');

sim($sim, 'delete?org=DAY&count=50');
is(sync('DAY'), 'failed 0', 'too much again');
$node->append_conf('postgresql.conf', 'pfa_vanguard.max_delete_fraction = 0.5');
$node->reload;
is(sync('DAY'), 'completed 50', 'a higher limit is obeyed after a reload');
$node->append_conf('postgresql.conf', 'pfa_vanguard.max_delete_fraction = 0');
$node->reload;
sim($sim, 'delete?org=DAY&count=1');
is(sync('DAY'), 'failed 0', 'so is none at all');
is(sync('DAY', 'force'), 'completed 1', 'force');
$node->append_conf('postgresql.conf', 'pfa_vanguard.max_delete_fraction = 0.2');
$node->reload;

# ---- hidden ----

sim($sim, 'set?hide=2');
is(sync('HIDE'), 'failed 0', 'half of the records are not for us any more');
is(rows('HIDE'), 400, 'they stay');
sim($sim, 'set?hide=10');
is(sync('HIDE'), 'completed 40', 'a tenth');
sim($sim, 'set?hide=0');
is(sync('HIDE'), 'completed 0', 'they are shown again');
compare($node, 'postgres', $sim, 'HIDE', 'shown again');

# ---- readers ----

# Count the rows of BIG again and again until told to end; gives the least and
# the greatest number.
sub start_reader
{
	$node->safe_psql('postgres', 'DROP TABLE IF EXISTS reading; CREATE TABLE reading (stop boolean)');
	my %reader = (out => '');
	$reader{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', q{
		DO $$DECLARE n bigint; least bigint := 1e9; most bigint := 0; rounds int := 0;
		BEGIN
			LOOP
				SELECT count(*) INTO n FROM pfa_mirror WHERE organization_id = 'BIG';
				least := least(least, n); most := greatest(most, n); rounds := rounds + 1;
				EXIT WHEN EXISTS (SELECT FROM reading);
			END LOOP;
			RAISE NOTICE 'least % most % rounds %', least, most, rounds;
		END$$} ], '>', \$reader{out}, '2>&1');
	wait_for($node, 'postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%DECLARE n bigint%' AND pid <> pg_backend_pid()");
	return \%reader;
}

sub stop_reader
{
	my ($reader) = @_;
	$node->safe_psql('postgres', 'INSERT INTO reading VALUES (true)');
	$reader->{run}->finish;
	my ($least, $most, $rounds) = $reader->{out} =~ /least (\d+) most (\d+) rounds (\d+)/;
	note "reader: $reader->{out}";
	cmp_ok($rounds, '>', 10, 'the reader was at it');
	return ($least, $most);
}

sim($sim, 'fault?kind=latency&ms=10&org=BIG');
sim($sim, 'delete?org=BIG&count=1500');
my $reader = start_reader();
is(sync('BIG', 'force'), 'completed 1500', 'a forced sync that deletes many');
my ($least, $most) = stop_reader($reader);
cmp_ok($least, '>=', 2500, 'never fewer rows than after it');
cmp_ok($most, '<=', 4000, 'nor more than before');

$reader = start_reader();
$node->safe_psql('postgres', "INSERT INTO pfa_field_mapping (organization_id, pems_alias, key, kind)
	VALUES ('BIG', 'pfs_a_vendor', 'vendor', 'text')");
is(sync('BIG', 'force'), 'completed 0', 'a forced sync with a new mapping');
($least, $most) = stop_reader($reader);
is("$least $most", '2500 2500', 'every row is there all the time');
is(value($node, 'postgres', "SELECT count(*) FROM pfa_mirror WHERE organization_id = 'BIG' AND data ? 'vendor'"), 2500,
	'and all are written anew');

# ---- gone and back ----

sim($sim, 'clear');
$node->safe_psql('postgres', "DELETE FROM pfa_field_mapping WHERE organization_id = 'BIG'");
sync('BIG');
compare($node, 'postgres', $sim, [qw(RIO DAY HIDE FEW BIG)], 'in the end');

done_testing();
