# Deltas: what has changed, and nothing is lost by asking only for that.
#
# - A delta needs supports_delta, and a full run that is less than a day old and
#   read with the same mapping; without it "auto" is "full".
# - It asks for what was changed since the newest stamp seen, less five minutes,
#   so a change that PEMS commits late is found as well.
# - Its counts are exact; it deletes nothing, the next full run does.
# - A changed mapping has every record looked at.
# - The mark moves when a run completes and not before.
# - One stamp of the future does not blind later deltas.
use strict;
use warnings;

use PfaTest;
use Test::More;

my $sim = simulator('--orgs', 'RIO:300,KEY:300', '--seed', 3, '--oddities');
my $node = new_server('delta');

add_source($node, 'postgres', $sim, 'pems', "page_size '50', max_retries '1'");
add_source($node, 'postgres', $sim, 'keyed', "page_size '50', pagination 'keyset', supports_delta 'true'");
is(add_organizations($node, 'postgres', 'pems', 'RIO'), 'completed', 'first sync');
is(add_organizations($node, 'postgres', 'keyed', 'KEY'), 'completed', 'first sync by id');

my $counts = "status || ' ' || mode || ' ' || rows_inserted || '/' || rows_updated || '/' || rows_deleted";

sub sync
{
	my ($mode, $org) = @_;
	run_sync($node, 'postgres', $org // 'RIO', $mode // 'auto');
	return last_run($node, 'postgres', $org // 'RIO', $counts);
}

sub mark
{
	return value($node, 'postgres', "SELECT watermark FROM pfa_sync_state WHERE organization_id = 'RIO'");
}

sub filters
{
	my %seen = map { ($_ => 1) } sim($sim, 'log?n=100') =~ /"filter":"([^"]*)"/g;
	return join ' | ', sort keys %seen;
}

# ---- which runs are deltas ----

is(sync(), 'completed full 0/0/0', 'without supports_delta a sync is full');
$node->safe_psql('postgres', "ALTER SERVER pems OPTIONS (ADD supports_delta 'on')");
sim($sim, 'stats?reset=1');
is(sync(), 'completed delta 0/0/0', 'with it, a delta');
is(last_run($node, 'postgres', 'RIO', 'api_calls'), 1, 'of one request');
my ($since) = filters() =~ /^pfs_a_org BEGINS RIO; pfs_lastmodified >= ([0-9T:.-]+)$/;
ok(defined $since, 'that asks for the changes since the mark') || diag(filters());
my $newest = value($node, 'postgres', "SELECT max(pems_version) FROM pfa_mirror WHERE organization_id = 'RIO'");
my $margin = value($node, 'postgres',
	"SELECT extract(epoch FROM '$newest'::timestamp - '$since'::timestamp)::int");
cmp_ok($margin, '>=', 300, 'which is five minutes before the newest stamp');
cmp_ok($margin, '<', 420, 'and not much more');

is(sync('full'), 'completed full 0/0/0', 'a full run on request');
is(sync('delta'), 'completed delta 0/0/0', 'a delta on request');
is(sync(undef, 'KEY'), 'completed delta 0/0/0', 'a delta by id');

# ---- what they see ----

sim($sim, 'change?org=RIO&count=7');
sim($sim, 'insert?org=RIO&count=4');
sim($sim, 'insert?org=RIO&count=3&scattered=1');
is(sync(), 'completed delta 7/7/0', 'changes and new records are counted exactly');
compare($node, 'postgres', $sim, 'RIO', 'after a delta');
is(sync(), 'completed delta 0/0/0', 'what was seen is seen again, and is nothing new');
like(last_run($node, 'postgres', 'RIO', 'rows_seen || \' \' || rows_unchanged'), qr/^14 14$/,
	'all that was changed within the margin was looked at');

sim($sim, "change?org=$_&count=90") for qw(RIO KEY);
is(sync(undef, $_), 'completed delta 0/90/0', "$_: a delta of several pages") for qw(RIO KEY);
compare($node, 'postgres', $sim, [qw(RIO KEY)], 'after a delta of several pages');

# a change whose stamp is older than what has been seen
sim($sim, 'change?org=RIO&count=5&backdate_ms=250000');
is(sync(), 'completed delta 0/5/0', 'changes that were committed late are found');
compare($node, 'postgres', $sim, 'RIO', 'after late commits');

sim($sim, 'delete?org=RIO&count=6');
is(sync(), 'completed delta 0/0/0', 'a delta deletes nothing');

# ---- a full run at least once a day ----

$node->safe_psql('postgres', "UPDATE pfa_sync_state SET last_full_at = last_full_at - interval '23 hours'");
is(sync(), 'completed delta 0/0/0', 'the last full run is less than a day old: delta');
$node->safe_psql('postgres', "UPDATE pfa_sync_state SET last_full_at = last_full_at - interval '1 hour'");
is(sync(), 'completed full 0/0/6', 'it is a day old: full, and deleted records go');
compare($node, 'postgres', $sim, 'RIO', 'after the full run');
is(sync(), 'completed delta 0/0/0', 'then deltas again');

# ---- the mapping ----

$node->safe_psql('postgres', "INSERT INTO pfa_field_mapping (organization_id, pems_alias, key, kind)
	VALUES ('RIO', 'PFS_A_STATUS', 'status', 'text')");
is(sync(), 'completed full 0/301/0',
	'a new row of the mapping: full, and every record is written anew')
  || diag(last_run($node, 'postgres', 'RIO', 'rows_unchanged'));
is(value($node, 'postgres', "SELECT count(*) FROM pfa_mirror WHERE organization_id = 'RIO' AND NOT data ? 'status'"),
	0, 'every record has the key');
cmp_ok(value($node, 'postgres', "SELECT count(*) FROM pfa_mirror WHERE data->>'status' <> ''"), '>', 50,
	'and many have a value');
is(sync(), 'completed delta 0/0/0', 'then deltas again');
$node->safe_psql('postgres', "UPDATE pfa_sync_state SET last_full_at = now()");
is(sync(undef, 'KEY'), 'completed delta 0/0/0', 'another organization is not concerned');

$node->safe_psql('postgres', "DELETE FROM pfa_field_mapping WHERE organization_id = 'RIO'");
like(sync(), qr/^completed full 0\/\d+\/0$/, 'a row less: full');
compare($node, 'postgres', $sim, 'RIO', 'after the mapping went back');

$node->safe_psql('postgres', "UPDATE pfa_field_mapping SET default_value = 'OTHER' WHERE key = 'dor'");
my $blank = value($node, 'postgres', "SELECT count(*) FROM pfa_mirror WHERE data->>'dor' = 'PROJECT' AND organization_id = 'RIO'");
like(sync(), qr/^completed full 0\/\d+\/0$/, 'another default: full');
cmp_ok(value($node, 'postgres', "SELECT count(*) FROM pfa_mirror WHERE data->>'dor' = 'OTHER' AND dor = 'OTHER'"),
	'>', 0, 'which blanks now have');
$node->safe_psql('postgres', "UPDATE pfa_field_mapping SET default_value = 'PROJECT' WHERE key = 'dor'");
like(sync(), qr/^completed full 0\/\d+\/0$/, 'and back');
compare($node, 'postgres', $sim, 'RIO', 'after the default went back');
is(sync(undef, 'KEY'), 'completed delta 0/0/0',
	'an organization that did not see a change that was taken back has nothing to do');

# ---- the mark moves at the end only ----

my $before = mark();
sim($sim, 'change?org=RIO&count=60');
sim($sim, 'fault?kind=status&code=500&org=RIO&skip=1');
like(sync(), qr/^failed delta 0\/[1-9]\d*\/0$/, 'a delta that fails in the middle has written rows');
is(mark(), $before, 'but not moved the mark');
sim($sim, 'clear');
sync();
compare($node, 'postgres', $sim, 'RIO', 'the next delta reads the rest');

# a failure between the last page and the end of the run
$node->safe_psql('postgres', q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN RAISE EXCEPTION 'not now'; END$$;
	CREATE TRIGGER refuse BEFORE UPDATE OF watermark ON pfa_sync_state
		FOR EACH ROW EXECUTE FUNCTION refuse()});
$before = mark();
sim($sim, 'change?org=RIO&count=3');
my $run = $node->safe_psql('postgres', "SELECT pfa_sync_now('RIO')");
ok(wait_for($node, 'postgres', "SELECT status = 'failed' OR attempt > 1 FROM pfa_sync_run WHERE run_id = $run", 60),
	'a run that cannot write its end does not complete');
is(mark(), $before, 'the mark has not moved');
$node->safe_psql('postgres', 'DROP FUNCTION refuse CASCADE');
wait_sync($node, 'postgres');
sync();
compare($node, 'postgres', $sim, 'RIO', 'after the next delta');

# ---- stamps ----

sim($sim, 'fault?kind=raw&row=10&field=pfs_lastmodified&text="2099-01-01T00:00:00"&org=RIO');
is(substr(sync('full'), 0, 18), 'completed full 0/1', 'a record with a stamp of the future');
cmp_ok(mark(), 'lt', '2098', 'does not become the mark');
sim($sim, 'clear');
sim($sim, 'change?org=RIO&count=8');
sync();
is(value($node, 'postgres', "SELECT count(*) FROM pfa_mirror WHERE pems_version LIKE '2099%'"), 1,
	'a delta does not see that it went back');
like(last_run($node, 'postgres', 'RIO', $counts), qr/^completed delta 0\/[78]\/0$/, 'but sees the others');
sync('full');
compare($node, 'postgres', $sim, 'RIO', 'after a full run');

# ---- a deployment that cannot ----

sim($sim, 'set?delta=off');
is(sync(), 'failed delta 0/0/0', 'filters on the stamp are refused');
like(last_run($node, 'postgres', 'RIO', 'error'), qr/cannot be used in a filter/, 'with what PEMS said');
is(sync('full'), 'completed full 0/0/0', 'full runs work');
sim($sim, 'set?delta=on&keyset=off');
is(sync('full', 'KEY'), 'failed full 0/0/0', 'filters on ids are refused');
sim($sim, 'set?keyset=on');
sim($sim, 'fault?kind=ignore_filter&org=KEY');
like(sync('full', 'KEY') . last_run($node, 'postgres', 'KEY', 'error'),
	qr/^failed full 0\/0\/0PEMS does not honor the filter on record ids/, 'or are ignored');
sim($sim, 'clear');
is(sync('full', 'KEY'), 'completed full 0/0/0', 'and work again');
compare($node, 'postgres', $sim, [qw(RIO KEY)], 'in the end');

done_testing();
