# The whole way, with the real programs: exporter, Prometheus, Alertmanager.
#
#  - promtool and amtool accept what monitoring/ holds, and the rule tests pass
#  - each metric of the specification's lists is in Prometheus, with the value
#    that the database knows
#  - what the exporter offers is what queries.yaml and the dashboards name
#  - each panel of each dashboard gets data; dashboards can be imported
#  - failing syncs alert, and the alert arrives at a webhook
#  - a scrape is complete and quick though every table is locked
#  - the live page is drawn by a browser
use strict;
use warnings;

use lib "$ENV{PFA_ROOT}/test/perl";
use File::Copy;
use HTTP::Tiny;
use JSON::PP;
use PfaTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $db = 'postgres';
my $source = "$ENV{PFA_ROOT}/monitoring";
my $dir = PostgreSQL::Test::Utils::tempdir();
my $http = HTTP::Tiny->new(timeout => 20);
my @pids;

# ---- files ----

sub succeeds
{
	my ($name, @command) = @_;
	my ($out, $err);
	my $ok = IPC::Run::run(\@command, '>', \$out, '2>', \$err);
	ok($ok, $name) or diag "$out$err";
}

succeeds('promtool: configuration', 'promtool', 'check', 'config', "$source/prometheus.yml");
succeeds('promtool: rules', 'promtool', 'check', 'rules', "$source/rules/pfa_vanguard.yml");
succeeds('promtool: tests of the rules', 'promtool', 'test', 'rules', "$source/rules/pfa_vanguard_test.yml");
succeeds('amtool: configuration', 'amtool', 'check-config', "$source/alertmanager.yml");
succeeds("amtool: a $_->[0] alert goes to $_->[1]", 'amtool', 'config', 'routes', 'test',
	"--config.file=$source/alertmanager.yml", "--verify.receivers=$_->[1]", "severity=$_->[0]")
  for [ 'critical', 'pager' ], [ 'warning', 'mail-and-slack' ];

# Each alert of the rules has a test in which it fires.
{
	my $rules = slurp_file("$source/rules/pfa_vanguard.yml");
	my $tests = slurp_file("$source/rules/pfa_vanguard_test.yml");
	my @alerts = $rules =~ /- alert: (\w+)/g;
	my @untested = grep { $tests !~ /alertname: $_\n        exp_alerts:/ || $tests !~ /alertname: $_\n(?!        exp_alerts)/ } @alerts;
	is("@untested", '', scalar(@alerts) . ' alerts, each with cases that fire and that do not');
}

# ---- servers ----

my $sim = simulator('--orgs', 'RIO:500,LIMA:300');
my $node = new_server('monitored');
add_source($node, $db, $sim, 'pems', "max_retries '1'");
$node->safe_psql($db,
	"SELECT pfa_add_organization(o, 'pems', NULL, '1 day') FROM unnest('{RIO,LIMA}'::text[]) o");
wait_sync($node, $db);
$node->safe_psql($db, 'SELECT pfa_refresh_mv()');
$node->command_ok([ 'psql', '-Xq', '-o', '/dev/null', '-d', $node->connstr($db), '-f',
	"$source/postgres_exporter/role.sql" ], 'the role of the exporter');
$node->append_conf('pg_hba.conf', 'local all all trust');
$node->reload;

my %port = map { $_ => PostgreSQL::Test::Cluster::get_free_port() }
  qw(exporter node prometheus alertmanager sink);

sub start
{
	my ($name, $ready, @command) = @_;
	my $pid = fork();

	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		open STDOUT, '>', "$dir/$name.log";
		open STDERR, '>&', \*STDOUT;
		exec @command;
		exit 1;
	}
	push @pids, $pid;
	for (1 .. 300)
	{
		return if $http->get($ready)->{success};
		usleep(100_000);
	}
	die "$name does not answer: " . slurp_file("$dir/$name.log");
}

END
{
	my $status = $?;
	kill 'TERM', @pids;
	waitpid $_, 0 for @pids;
	$? = $status;
}

# Durations and windows are shortened, all else is as it is delivered; that
# the real ones are right is what promtool tests.
mkdir "$dir/$_" for qw(rules consoles prometheus alertmanager);
my $rules = slurp_file("$source/rules/pfa_vanguard.yml");
$rules =~ s/for: \d+[mh]/for: 3s/g;
$rules =~ s/\[(1h|\d+m)\]/[1m]/g;
append_to_file("$dir/rules/pfa_vanguard.yml", $rules);
my $config = slurp_file("$source/prometheus.yml");
$config =~ s/127.0.0.1:9187/127.0.0.1:$port{exporter}/;
$config =~ s/127.0.0.1:9100/127.0.0.1:$port{node}/;
$config =~ s/127.0.0.1:9090/127.0.0.1:$port{prometheus}/;
$config =~ s/127.0.0.1:9093/127.0.0.1:$port{alertmanager}/;
$config =~ s/_interval: 15s/_interval: 1s/g;
$config =~ s/scrape_timeout: 10s/scrape_timeout: 1s/;
append_to_file("$dir/prometheus.yml", $config);
my $alerting = slurp_file("$source/alertmanager.yml");
$alerting =~ s/127.0.0.1:9095/127.0.0.1:$port{sink}/;
$alerting =~ s/group_wait: \d+s/group_wait: 1s/g;
append_to_file("$dir/alertmanager.yml", $alerting);
copy($_, "$dir/consoles/") or die "$_: $!" for glob("$source/consoles/*");

$ENV{PG_EXPORTER_EXTEND_QUERY_PATH} = "$source/postgres_exporter/queries.yaml";
$ENV{PG_EXPORTER_DISABLE_DEFAULT_METRICS} = 'true';
$ENV{PG_EXPORTER_DISABLE_SETTINGS_METRICS} = 'true';
$ENV{DATA_SOURCE_NAME} = 'host=' . $node->host . ' port=' . $node->port
  . " dbname=$db user=pfa_exporter sslmode=disable";
start('exporter', "http://127.0.0.1:$port{exporter}/metrics", 'prometheus-postgres-exporter',
	"--web.listen-address=127.0.0.1:$port{exporter}");
start('node', "http://127.0.0.1:$port{node}/metrics", 'prometheus-node-exporter',
	"--web.listen-address=127.0.0.1:$port{node}");
start('sink', "http://127.0.0.1:$port{sink}/", 'perl', "$ENV{PFA_ROOT}/tools/alert_sink", $port{sink}, "$dir/alerts");
start('alertmanager', "http://127.0.0.1:$port{alertmanager}/-/ready", 'prometheus-alertmanager',
	"--config.file=$dir/alertmanager.yml", "--storage.path=$dir/alertmanager",
	"--web.listen-address=127.0.0.1:$port{alertmanager}", '--cluster.listen-address=');
start('prometheus', "http://127.0.0.1:$port{prometheus}/-/ready", 'prometheus',
	"--config.file=$dir/prometheus.yml", "--storage.tsdb.path=$dir/prometheus",
	"--web.listen-address=127.0.0.1:$port{prometheus}",
	"--web.console.templates=$dir/consoles", "--web.console.libraries=$dir/consoles");

# ---- asking ----

sub api
{
	my ($path, %parameters) = @_;
	my $response = $http->post_form("http://127.0.0.1:$port{prometheus}/api/v1/$path", \%parameters);
	my $answer = eval { decode_json($response->{content}) } // {};
	diag "$path: $response->{content}" unless $response->{success};
	return $answer->{data};
}

# Values of an instant query, "label=value,... value" for each series.
sub query
{
	my ($expr) = @_;
	return map { $_->{value}[1] } @{ api('query', query => $expr)->{result} // [] };
}

# Wait until a query has one series with a value that passes.
sub becomes
{
	my ($expr, $test, $name, $seconds) = @_;
	my $end = time + ($seconds // 40);
	my @values;

	while (time < $end)
	{
		@values = query($expr);
		if (@values == 1 && $test->($values[0]))
		{
			pass("$name: $values[0]");
			return;
		}
		usleep(200_000);
	}
	fail($name);
	diag "$expr: @values";
}

sub equals
{
	my ($expr, $expected, $name) = @_;
	becomes($expr, sub { $_[0] ne 'NaN' && abs($_[0] - $expected) < 1e-6 }, "$expr is $expected");
}

# ---- events to be seen ----

sim($sim, 'change?org=RIO&count=5');
is(run_sync($node, $db, 'RIO'), 'completed', 'a sync');
sim($sim, 'fault?kind=status&code=503&org=LIMA&count=1');
is(run_sync($node, $db, 'LIMA'), 'completed', 'a sync with a retry');
is(run_sync($node, $db, 'LIMA', 'force'), 'completed', 'a forced sync');
$node->psql($db, "SELECT pfa_sync_now('nowhere')");
$node->safe_psql($db, q{
	SELECT count(*) FROM pfa_mirror;
	SET pfa_vanguard.slow_query_threshold = '10ms';
	SELECT pg_sleep(0.05), count(*) FROM pfa_mirror});
my $waiter = $node->background_psql($db);
$waiter->query_safe("BEGIN");

sub runs
{
	return $node->safe_psql($db,
		"SELECT coalesce(sum($_[0]), 0) FROM pfa_sync_run WHERE finished_at IS NOT NULL" . ($_[1] ? " AND $_[1]" : ''));
}

# ---- the specification's lists ----

# Sync
equals('sum(pfa_sync_operations_total{organization="RIO"})', 2);
equals('sum(pfa_sync_operations_success_total{organization="LIMA"})', 3);
equals('pfa_sync_operations_total{organization="LIMA",mode="force"}', 1);
equals('sum(pfa_sync_operations_failed_total)', 0);
equals('sum(pfa_sync_duration_seconds_count)', 5);
becomes('sum(pfa_sync_duration_seconds_sum) / sum(pfa_sync_busy_seconds_total)', sub { abs($_[0] - 1) < 1e-6 },
	'sums of durations agree');
becomes('histogram_quantile(0.95, sum by (le) (pfa_sync_duration_seconds_bucket))', sub { $_[0] > 0 && $_[0] < 60 },
	'a percentile of durations');
equals('sum(pfa_sync_records_processed_sum)', 500 + 300 + 500 + 300 + 300);
becomes('pfa_sync_records_per_second{organization="RIO"}', sub { $_[0] > 0 }, 'records per second');
equals('sum(pfa_sync_api_calls_total)', runs('api_calls'));
equals('pfa_sync_db_writes_total{organization="RIO"}', 505);
equals('pfa_sync_retries_total{organization="LIMA"}', 1);
equals('sum(pfa_sync_errors_total)', 0);
equals('pfa_sync_rows_total{organization="RIO",kind="updated"}', 5);
equals('pfa_sync_rows_total{organization="LIMA",kind="unchanged"}', 600);
becomes('time() - pfa_sync_last_success_timestamp_seconds{organization="RIO"}', sub { $_[0] >= -1 && $_[0] < 600 },
	'time of the last success');
equals('sum(pfa_sync_running)', 0);

# API
equals('pfa_api_requests_total{endpoint="pfa_sync_now"}', 4);
equals('pfa_api_errors_total{endpoint="pfa_sync_now"}', 1);
equals('pfa_api_request_duration_seconds_count{endpoint="pfa_sync_now"}', 4);
becomes('pfa_api_request_duration_seconds_sum{endpoint="pfa_sync_now"}', sub { $_[0] > 0 && $_[0] < 30 }, 'latency of an endpoint');
becomes('pfa_api_response_size_bytes_sum{endpoint="pfa_sync_wait"}', sub { $_[0] >= 3 * length('completed') }, 'size of responses');
equals('sum(pfa_api_requests_in_flight)', 0);

# Database
my $statements = $node->safe_psql($db, 'SELECT queries_total FROM pfa_metrics_db');
equals('pfa_db_queries_total', $statements);
equals('pfa_db_query_duration_seconds_count', $statements);
equals('pfa_db_slow_queries_total', 1);
becomes('pfa_db_connections{state="active"}', sub { $_[0] >= 1 }, 'the exporter is an active connection');
equals('pfa_db_connections{state="idle_in_transaction"}', 1);
equals('pfa_db_connections{state="waiting"}', 0);
becomes('pfa_db_connections{state="idle"}', sub { $_[0] >= 0 }, 'idle connections');
equals('pfa_db_connections_max', $node->safe_psql($db,
	"SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"));
becomes('pfa_db_table_size_bytes{relation="pfa_mirror"}',
	sub { abs($_[0] - $node->safe_psql($db, "SELECT pg_total_relation_size('pfa_mirror')")) <= 65536 }, 'size of a table', 90);
becomes('pfa_db_table_rows{relation="pfa_mirror"}', sub { abs($_[0] - 800) <= 40 }, 'rows of a table', 90);
becomes('pfa_db_index_hit_ratio{relation="pfa_mirror"}', sub { $_[0] > 0.5 && $_[0] <= 1 }, 'index hits', 60);

# Cache
$node->safe_psql($db, $_) for (
	q{SELECT pfa_cache_set('ai:query:asked', '{"answer": 42}', '1 hour')},
	q{SELECT pfa_cache_get('ai:query:asked')}, q{SELECT pfa_cache_get('ai:query:asked')},
	q{SELECT pfa_cache_get('ai:query:asked')}, q{SELECT pfa_cache_get('ai:query:never asked')});
equals('pfa_cache_hits_total{keyspace="ai_query"}', 3);
equals('pfa_cache_misses_total{keyspace="ai_query"}', 1);
equals('sum(pfa_cache_evictions_total)', 0);
becomes('pfa_cache_operation_duration_seconds_count{operation="get"}', sub { $_[0] >= 4 }, 'cache operations');
becomes('pfa_cache_hit_ratio', sub { $_[0] > 0 && $_[0] <= 1 }, 'cache hit ratio');
becomes('pfa_cache_size_bytes', sub { $_[0] > 0 }, 'cache size');
equals('pfa_cache_up', 1);

# Beside them
equals("pfa_worker_up{worker=\"$_\"}", 1) for qw(launcher scheduler);
equals('sum(pfa_worker_restarts_total)', 0);
equals('sum(pfa_conflicts_open)', 0);
equals('sum(pfa_write_back_pending)', 0);
equals('sum(pfa_write_back_total)', 0);
becomes('pfa_events_total{level="error"}', sub { $_[0] >= 1 }, 'events');
equals('pfa_metrics_events_dropped_total', 0);
equals('pfa_build_info', 1);
becomes('pfa_metrics_start_time_seconds', sub { abs($_[0] - $node->safe_psql($db,
	'SELECT extract(epoch FROM pg_postmaster_start_time())')) < 30 }, 'start time');

# ---- nothing missing, nothing too much ----

my $metrics = $http->get("http://127.0.0.1:$port{exporter}/metrics")->{content};
my %offered = map { $_ => 1 } $metrics =~ /^# TYPE (pfa_\w+)/mg;
my ($out, $err);
my @pfa = grep { /^(# (HELP|TYPE) )?pfa_/ } split /\n/, $metrics;
ok(IPC::Run::run([ 'promtool', 'check', 'metrics' ], '<', \(join("\n", @pfa) . "\n"), '>', \$out, '2>', \$err),
	'promtool: names, types and help') or diag "$out$err";
is($node->safe_psql($db, q{
	SELECT string_agg(DISTINCT name, ' ') FROM (
		SELECT regexp_replace(name, '_(bucket|sum|count)$', '') AS name FROM pfa_metrics) m
	WHERE NOT name = ANY (string_to_array('} . join(' ', keys %offered) . q{', ' '))}),
	'', 'the exporter offers all that pfa_metrics has');
like($metrics, qr/^pg_exporter_last_scrape_error 0/m, 'without an error');
cmp_ok(scalar(grep { !/^#/ } @pfa), '<', 5000, 'fewer than 5,000 series');

# ---- dashboards ----

# Rates and increases need something that happens between two scrapes.
is(run_sync($node, $db, $_), 'completed', "a sync of $_") for qw(RIO LIMA);
$node->psql($db, "SELECT pfa_sync_now('nowhere')");
$node->safe_psql($db, 'SELECT count(*) FROM pfa_mirror');
equals('sum(pfa_sync_operations_total)', 7);
equals('pfa_api_errors_total{endpoint="pfa_sync_now"}', 2);
$node->safe_psql($db, "SELECT pfa_cache_get('ai:query:asked')") for 1 .. 2;
equals('pfa_cache_hits_total{keyspace="ai_query"}', 5);
becomes('max(pfa_mv_age_seconds{view="mv_pfa_kpi_stats"})', sub { $_[0] >= 0 && $_[0] < 600 }, 'age of a materialized view', 90);
becomes('sum(increase(pfa_api_requests_total[30s]))', sub {
	$node->psql($db, q{SELECT pfa_cache_get('ai:query:asked')});
	return $_[0] > 0 }, 'calls are seen to increase');

my %panels;
for my $file (glob("$source/grafana/dashboards/*.json"))
{
	my $dashboard = decode_json(slurp_file($file));
	my $name = $file =~ s/.*\///r;
	my %ids;

	ok(!defined $dashboard->{id} && $dashboard->{uid} =~ /^[\w-]{1,40}$/, "$name: a uid, and no id");
	is($dashboard->{templating}{list}[0]{type}, 'datasource', "$name: the data source is a variable");
	for my $panel (@{ $dashboard->{panels} })
	{
		my $title = $panel->{title};
		my $found = 0;

		$panels{$name}{$title} = 1;
		ok(!$ids{ $panel->{id} }++ && $panel->{datasource}{uid} eq '${datasource}' && $panel->{fieldConfig}{defaults}{unit}
			  && $panel->{fieldConfig}{defaults}{thresholds}, "$name: $title has id, source, unit, thresholds");
		for my $target (@{ $panel->{targets} })
		{
			my $expr = $target->{expr};
			my $data;

			$expr =~ s/\$__rate_interval/30s/g;
			$expr =~ s/\$__range/10m/g;
			$expr =~ s/"\$(instance|organization)"/".*"/g;
			unlike($expr, qr/\$/, "$name: $title: no other variable");
			$data = $target->{instant} ? api('query', query => $expr) :
			  api('query_range', query => $expr, start => time - 60, end => time, step => 5);
			for my $series (@{ $data->{result} // [] })
			{
				$found++ if grep { $_->[1] ne 'NaN' } $series->{value} ? $series->{value} : @{ $series->{values} };
			}
		}
		ok($found, "$name: $title has data");
	}
}
my %wanted = (
	'sync-dashboard.json' => [ 'Sync operations per hour', 'Success rate', 'Active syncs',
		'Error rate by organization', 'Throughput', 'Average sync duration' ],
	'api-dashboard.json' => [ 'Request rate', 'Response time percentiles', 'Requests by endpoint',
		'Error rate', 'Concurrent requests' ],
	'database-dashboard.json' => [ 'Query latency', 'Slow queries', 'Connection pool status',
		'Table sizes', 'Index hit rate', 'Cache hit rate' ]);
for my $name (sort keys %wanted)
{
	is(join(', ', grep { !$panels{$name}{$_} } @{ $wanted{$name} }), '', "$name: every panel of the specification");
}

# ---- a scrape while everything is locked ----

$waiter->query_safe(lock_our_tables());
my @times;
my $complete = 1;
for (1 .. 10)
{
	my $begin = time;
	my $locked = $http->get("http://127.0.0.1:$port{exporter}/metrics")->{content};
	push @times, time - $begin;
	my %now = map { $_ => 1 } $locked =~ /^# TYPE (pfa_\w+)/mg;
	$complete = 0 if grep { !$now{$_} } keys %offered;
}
@times = sort { $a <=> $b } @times;
ok($complete, 'with every table locked a scrape is complete');
cmp_ok($times[4], '<', 1, sprintf('and takes as long as ever: median %.3f s', $times[4]));
$waiter->query_safe('COMMIT');
$waiter->quit;

# ---- an alert arrives ----

sim($sim, 'fault?kind=status&code=500&org=RIO');
is(run_sync($node, $db, 'RIO'), 'failed', 'a sync fails') for 1 .. 4;
equals('pfa_sync_errors_total{organization="RIO",kind="network"}', 4);

my $arrived;
for (1 .. 300)
{
	($arrived) = grep { /"alertname":"PfaSyncFailureRateCritical"/ } -e "$dir/alerts" ? split(/\n/, slurp_file("$dir/alerts")) : ();
	last if $arrived;
	usleep(200_000);
}
ok($arrived, 'the alert for failing syncs arrives at the webhook') or diag -e "$dir/alerts" ? slurp_file("$dir/alerts") : 'nothing arrived';
my $alert = eval { decode_json($arrived) } // {};
is($alert->{status}, 'firing', 'it fires');
is($alert->{groupLabels}{organization}, 'RIO', 'grouped by organization');
is($alert->{receiver}, 'pager', 'critical ones page');
like($alert->{commonAnnotations}{summary} // '', qr/^Syncs of RIO fail$/, 'and say what is wrong');
ok(!(grep { /"organization":"LIMA"/ && /"alertname":"PfaSyncFailureRate/ } split(/\n/, slurp_file("$dir/alerts"))),
	'nobody is woken for an organization that is well');

# ---- the live page ----

# the alert is over a minute after the last failure
is(run_sync($node, $db, 'RIO'), 'failed', 'syncs go on failing');
my $page = '';
my $url = "http://127.0.0.1:$port{prometheus}/consoles/pfa.html";
is($http->get($url)->{status}, 200, 'the live page');
is($http->get("$url?organization=RIO")->{status}, 200, 'of one organization');
is($http->get("$url?organization=%22%5C%22%7D)")->{status}, 200, 'and of nonsense');
{
	local $ENV{HOME} = $dir;
	IPC::Run::run([ 'chromium', '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
			"--user-data-dir=$dir/chromium", '--virtual-time-budget=15000', '--dump-dom', $url ],
		'>', \$page, '2>', \$err, IPC::Run::timeout(120));
}
my @graphs = $page =~ /<svg/g;
is(scalar(@graphs), 6, 'a browser draws its six graphs') or diag substr($err, -1000);
like($page, qr/<a href="pfa.html\?organization=RIO">RIO<\/a>/, 'it shows the organizations');
like($page, qr/PfaSyncFailureRateCritical/, 'and the alert');

done_testing();
