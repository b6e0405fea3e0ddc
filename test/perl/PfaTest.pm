# PfaTest.pm
#	  What the TAP tests share: a server with the extension, the PEMS
#	  simulator, and the comparison of mirror and canonical content.
package PfaTest;

use strict;
use warnings;

use Exporter 'import';
use File::Basename;
use File::Temp ();
use HTTP::Tiny;
use JSON::PP ();
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

our @EXPORT = qw(
  new_server simulator sim add_source wait_sync run_sync compare
  worker_pids wait_for value differences
  session timed stalled setting process_exists log_lines synced
  differences_query
  add_organizations sync_all last_run sim_json mirror_trace pairwise
  certificate requests_of preload_shim lock_our_tables
);

my @simulators;
my $root = $ENV{PFA_ROOT} || '.';

# ---- a machine that stands still ----

# A process that sleeps 10 ms at a time adds up how much it has overslept, so
# that limits of time are those of the product and not of a busy machine.
my $stalls = File::Temp::tempdir(CLEANUP => 1) . '/seconds';
my $clock = begin_clock($$);

sub begin_clock
{
	my ($parent) = @_;
	my $pid = fork();

	die "cannot fork: $!" unless defined $pid;
	return $pid if $pid != 0;
	open STDIN, '<', '/dev/null';
	open STDOUT, '>', '/dev/null';
	open STDERR, '>', '/dev/null';
	my ($lost, $last) = (0, time);
	while (getppid == $parent)
	{
		usleep(10_000);
		my $now = time;
		if ($now - $last > 0.1)
		{
			$lost += $now - $last;
			open my $file, '>', "$stalls.new" or last;
			print $file $lost;
			close $file;
			rename "$stalls.new", $stalls;
		}
		$last = $now;
	}
	POSIX::_exit(0);
}

# Seconds that the machine has stood still since the test began.
sub stalled
{
	open my $file, '<', $stalls or return 0;
	return scalar(<$file>) || 0;
}

# A server, preloading the extension unless told otherwise, with the extension
# in database postgres.  Options: preload, extension, conf.
sub new_server
{
	my ($name, %option) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(%{ $option{init} // {} });
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pfa_vanguard'\n")
	  unless defined $option{preload} && !$option{preload};
	$node->append_conf('postgresql.conf',
		"max_worker_processes = 16\nlog_min_messages = info\n"
		  . "timezone = 'America/Lima'\ndatestyle = 'SQL, DMY'\n"
		  . ($option{conf} // ''));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION pfa_vanguard')
	  unless defined $option{extension} && !$option{extension};
	return $node;
}

# Start a simulator; returns a handle for sim() and add_source().
sub simulator
{
	my @args = @_;
	my $dir = File::Temp::tempdir(CLEANUP => 1);
	my $pid = fork();

	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		open STDOUT, '>', "$dir/log";
		open STDERR, '>&', \*STDOUT;
		exec "$root/test/pems_sim/pems_sim", '--port', '0', '--port-file',
		  "$dir/port", '--user', 'api', '--password', 'secret', @args;
		exit 1;
	}
	push @simulators, $pid;
	for (1 .. 600)
	{
		last if -s "$dir/port";
		usleep(100_000);
	}
	my $port = slurp_file("$dir/port");
	chomp $port;
	my $scheme = grep({ $_ eq '--tls-cert' } @args) ? 'https' : 'http';
	return { pid => $pid, port => $port, dir => $dir,
		url => "$scheme://127.0.0.1:$port" };
}

# An admin request, e.g. sim($s, 'fault?kind=hang'); returns the answer's body.
sub sim
{
	my ($sim, $request) = @_;

	# for which HTTP::Tiny would need another module
	if ($sim->{url} =~ /^https/)
	{
		system_or_bail('curl', '-skf', '-o', "$sim->{dir}/answer", "$sim->{url}/admin/$request");
		return slurp_file("$sim->{dir}/answer");
	}
	my $response = HTTP::Tiny->new(timeout => 60, verify_SSL => 0)
	  ->get("$sim->{url}/admin/$request");

	die "simulator: $request: $response->{status} $response->{content}"
	  unless $response->{success};
	return $response->{content};
}

# Foreign server and user mapping; options are appended to the server's.
sub add_source
{
	my ($node, $db, $sim, $name, $options) = @_;

	$name //= 'pems';
	$options = $options ? ", $options" : '';
	$node->safe_psql($db, qq{
		SET client_min_messages = warning;
		CREATE SERVER $name FOREIGN DATA WRAPPER pfa_pems
			OPTIONS (base_url '$sim->{url}', tenant 'ACME'$options);
		CREATE USER MAPPING FOR CURRENT_USER SERVER $name
			OPTIONS (username 'api', password 'secret');
	});
}

sub value
{
	my ($node, $db, $query) = @_;
	return $node->safe_psql($db, $query);
}

# Poll until the query returns the expected text ('t').
sub wait_for
{
	my ($node, $db, $query, $seconds, $expected) = @_;
	my $end = time + ($seconds // 60) - stalled();

	$expected //= 't';
	while (time - stalled() < $end)
	{
		my ($rc, $out) = $node->psql($db, $query);
		return 1 if $rc == 0 && $out eq $expected;
		usleep(50_000);
	}
	return 0;
}

# Wait for everything queued and running; returns pfa_sync_wait's word.
sub wait_sync
{
	my ($node, $db, $seconds) = @_;
	$seconds //= 120;
	return $node->safe_psql($db,
		"SELECT coalesce(pfa_sync_wait(NULL, '$seconds seconds'), 'none')");
}

# Ask for a sync of one organization, wait for it, and return its status.
sub run_sync
{
	my ($node, $db, $org, $mode, $seconds) = @_;
	$mode //= 'auto';
	$seconds //= 120;
	my $run = $node->safe_psql($db, "SELECT pfa_sync_now('$org', '$mode')");
	return $node->safe_psql($db,
		"SELECT pfa_sync_wait($run, '$seconds seconds')");
}

# Ids whose mirror row and canonical record differ, or that one side lacks.
sub differences
{
	my ($node, $db, $sim, @orgs) = @_;
	return $node->safe_psql($db, differences_query($sim, @orgs));
}

# The same as statements, for a session that does more.
sub differences_query
{
	my ($sim, @orgs) = @_;
	my $insecure = $sim->{url} =~ /^https/ ? '-k ' : '';
	my $urls = join ' ', map { "$sim->{url}/admin/canonical?org=$_" } @orgs;
	my $list = join ', ', map { "'$_'" } @orgs;
	# the quote and delimiter are control characters that no line holds
	return qq{
		CREATE TEMP TABLE canonical (line text);
		COPY canonical FROM PROGRAM 'curl -sf $insecure$urls'
			WITH (FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01');
		SELECT coalesce(string_agg(coalesce(c.data->>'pfaId', m.pfa_id) || ': ' ||
			coalesce((SELECT string_agg(k || ' ' || coalesce(c.data->>k, 'null') || ' is ' ||
					coalesce(m.data->>k, 'null'), ', ')
				FROM (SELECT jsonb_object_keys(c.data) UNION SELECT jsonb_object_keys(m.data)) x(k)
				WHERE c.data->k IS DISTINCT FROM m.data->k), 'only on one side'), '; '), '')
		FROM (SELECT * FROM (SELECT line::jsonb AS data FROM canonical) c
			FULL JOIN (SELECT organization_id, pfa_id, data AS mdata FROM pfa_mirror
					WHERE organization_id IN ($list)) m
				ON m.pfa_id = c.data->>'pfaId' AND m.organization_id = c.data->>'organization'
			WHERE c.data IS DISTINCT FROM m.mdata LIMIT 5) d,
			LATERAL (SELECT d.data) c, LATERAL (SELECT d.pfa_id, d.mdata AS data) m;
		DROP TABLE canonical;
	};
}

# One test: mirror and canonical content are the same, record for record.
# org may be a reference to a list of them.
sub compare
{
	my ($node, $db, $sim, $org, $name) = @_;
	is(differences($node, $db, $sim, ref $org ? @$org : $org), '',
		"$name: mirror equals PEMS, record for record");
}

# Pids of our processes; kind is a pattern on application_name.
sub worker_pids
{
	my ($node, $pattern) = @_;
	return split /\n/, $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'pfa_vanguard%'
		 AND application_name LIKE '$pattern' ORDER BY pid");
}

# Key and certificate of a server, made by openssl: $dir/NAME.key and NAME.pem.
# Options: names (subjectAltName), issuer (name of another one; default: signed
# by itself), days that it is valid.
sub certificate
{
	my ($dir, $name, %option) = @_;
	my @key = ('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', "$dir/$name.key");
	my @names = defined $option{names} ? ('-addext', "subjectAltName=$option{names}") : ();
	my $days = $option{days} // 2;

	if (!defined $option{issuer})
	{
		system_or_bail('openssl', 'req', '-x509', @key, '-out', "$dir/$name.pem", '-subj', "/CN=$name",
			'-days', $days, @names);
		return;
	}
	system_or_bail('openssl', 'req', @key, '-out', "$dir/$name.csr", '-subj', "/CN=$name", @names);
	system_or_bail('openssl', 'x509', '-req', '-in', "$dir/$name.csr", '-out', "$dir/$name.pem",
		'-CA', "$dir/$option{issuer}.pem", '-CAkey', "$dir/$option{issuer}.key", '-set_serial', 1,
		'-days', $days, '-copy_extensions', 'copy');
}

# A library of test/shims to preload into a server, undef without a compiler.
sub preload_shim
{
	my ($name) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . "/$name.so";
	my $cc = $ENV{CC} || 'cc';
	return system("$cc -shared -fPIC -O1 -o $file $root/test/shims/$name.c -ldl") == 0 ? $file : undef;
}

# ---- processes ----

# A psql session that stays open: run() a statement and get its output, or
# start() one and get the output by result() later.
sub session
{
	my ($node, $db) = @_;
	return PfaSession->new($node, $db);
}

# Seconds that the code took, without those that the machine stood still.
sub timed
{
	my ($code) = @_;
	my ($start, $lost) = (time, stalled());
	$code->();
	my $seconds = time - $start;
	# by then the last stall has been noted
	usleep(30_000);
	return $seconds - (stalled() - $lost);
}

# Wait until each organization that is not paused has been synced, and the last
# run of each has completed.
sub synced
{
	my ($node, $db, $seconds) = @_;
	return wait_for($node, $db, q{
		SELECT count(*) > 0 AND bool_and(s.last_success_at IS NOT NULL AND r.status = 'completed')
		FROM pfa_sync_status s LEFT JOIN pfa_sync_run r USING (run_id)
		WHERE s.state <> 'paused'}, $seconds // 60);
}

# Change a setting and have the server read it; undef: back to the default.
sub setting
{
	my ($node, $name, $new) = @_;
	$node->safe_psql('postgres', defined $new
		? "ALTER SYSTEM SET $name = '$new'" : "ALTER SYSTEM RESET $name");
	$node->reload;
}

# A zombie has ended.
sub process_exists
{
	my ($pid) = @_;
	open my $stat, '<', "/proc/$pid/stat" or return 0;
	return (<$stat> // '') =~ /\) [^ZX]/ ? 1 : 0;
}

# How many lines of the server log, from the offset on, match.
sub log_lines
{
	my ($node, $pattern, $offset) = @_;
	my $log = slurp_file($node->logfile, $offset // 0);
	my @lines = $log =~ /^.*$pattern.*$/mg;
	return scalar @lines;
}

# A statement that locks every table of the extension, for a transaction that is
# open: all at once, or a turn of the scheduler and it wait for one another.
sub lock_our_tables
{
	return q{
		DO $$ DECLARE t text; BEGIN
			LOOP
				BEGIN
					FOR t IN SELECT c.oid::regclass FROM pg_class c JOIN pg_depend d ON d.objid = c.oid
						WHERE d.deptype = 'e' AND c.relkind = 'r'
						AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pfa_vanguard')
					LOOP EXECUTE 'LOCK TABLE ' || t || ' IN ACCESS EXCLUSIVE MODE NOWAIT'; END LOOP;
					EXIT;
				EXCEPTION WHEN lock_not_available THEN PERFORM pg_sleep(0.05);
				END;
			END LOOP;
		END $$};
}

# ---- syncs and the protocol ----

# Organizations that are synced on request only; waits for their first sync.
sub add_organizations
{
	my ($node, $db, $server, @orgs) = @_;
	$node->safe_psql($db,
		join(';', map { "SELECT pfa_add_organization('$_', '$server', sync_interval => '7 days')" } @orgs));
	wait_for($node, $db, "SELECT NOT EXISTS (SELECT FROM pfa_organization o WHERE NOT EXISTS
		(SELECT FROM pfa_sync_run r WHERE r.organization_id = o.organization_id
			AND r.finished_at IS NOT NULL))", 180);
	return value($node, $db, "SELECT coalesce(min(nullif(status, 'completed')), 'completed')
		FROM pfa_sync_run");
}

# Sync all organizations; returns the word of pfa_sync_wait.
sub sync_all
{
	my ($node, $db, $mode) = @_;
	$mode //= 'auto';
	# in one session, so that a run that ends soon is waited for, too
	return $node->safe_psql($db, "SELECT pfa_sync_now(NULL, '$mode') \\g /dev/null\n"
		. "SELECT coalesce(pfa_sync_wait(NULL, '120 seconds'), 'none')");
}

# Columns of an organization's last run, separated by |.
sub last_run
{
	my ($node, $db, $org, $columns) = @_;
	return $node->safe_psql($db, "SELECT $columns FROM pfa_sync_run
		WHERE organization_id = '$org' ORDER BY run_id DESC LIMIT 1");
}

# Requests for an organization's data (all: undef), oldest first, as hashes.
sub requests_of
{
	my ($sim, $org) = @_;
	return grep { !defined $org || $_->{org} eq $org }
	  map { JSON::PP::decode_json($_) } split /\n/, sim($sim, 'log?n=1000');
}

sub sim_json
{
	my ($sim, $request) = @_;
	return JSON::PP::decode_json(sim($sim, $request));
}

# Changes with any row version and any row lock.
sub mirror_trace
{
	my ($node, $db) = @_;
	return $node->safe_psql($db, "SELECT count(*) || ' ' || coalesce(md5(string_agg(
		ctid::text || xmin || '/' || xmax, ',' ORDER BY ctid)), '') FROM pfa_mirror");
}

# Few combinations in which each value of a factor meets each value of every
# other one.  Takes [name, value, ...] a factor, gives hashes; the same ones
# each time.
sub pairwise
{
	my @factors = @_;
	my (%left, @chosen);

	for my $a (0 .. $#factors)
	{
		for my $b ($a + 1 .. $#factors)
		{
			for my $x (1 .. $#{ $factors[$a] })
			{
				$left{"$a $x $b $_"} = 1 for 1 .. $#{ $factors[$b] };
			}
		}
	}
	while (%left)
	{
		# begin with a pair that is left, then the best value for each factor
		my ($a, $x, $b, $y) = split / /, (sort keys %left)[0];
		my @value;
		@value[ $a, $b ] = ($x, $y);
		for my $f (grep { !defined $value[$_] } 0 .. $#factors)
		{
			my ($best, $most) = (1, -1);
			for my $v (1 .. $#{ $factors[$f] })
			{
				my $gain = grep {
					defined $value[$_] && exists $left{
						$_ < $f ? "$_ $value[$_] $f $v" : "$f $v $_ $value[$_]" }
				} 0 .. $#factors;
				($best, $most) = ($v, $gain) if $gain > $most;
			}
			$value[$f] = $best;
		}
		for my $f (0 .. $#factors)
		{
			delete $left{"$f $value[$f] $_ $value[$_]"} for $f + 1 .. $#factors;
		}
		push @chosen, { map { ($factors[$_][0], $factors[$_][ $value[$_] ]) } 0 .. $#factors };
	}
	return @chosen;
}

END
{
	my $status = $?;
	kill 'TERM', $clock, @simulators;
	waitpid $_, 0 for $clock, @simulators;
	$? = $status;
}

package PfaSession;

use IPC::Open3;

sub new
{
	my ($class, $node, $db) = @_;
	my $self = bless { count => 0 }, $class;

	$self->{pid} = open3($self->{in}, $self->{out}, undef,
		'psql', '-XAtq', '-d', $node->connstr($db));
	$self->{in}->autoflush(1);
	return $self;
}

# Send without waiting for the end.
sub start
{
	my ($self, $sql) = @_;
	$self->{count}++;
	print { $self->{in} } "$sql\n;\n\\echo =$self->{count}=\n";
	return $self;
}

# Output of what was started, errors included.
sub result
{
	my ($self) = @_;
	my $text = '';
	local $SIG{ALRM} = sub { die "session: no answer, only: $text" };

	alarm 180;
	while (defined(my $line = readline $self->{out}))
	{
		last if $line eq "=$self->{count}=\n";
		$text .= $line;
	}
	alarm 0;
	chomp $text;
	return $text;
}

sub run
{
	my ($self, $sql) = @_;
	return $self->start($sql)->result;
}

# Begins with the session, so that its backend is known.
sub backend
{
	my ($self) = @_;
	return $self->run('SELECT pg_backend_pid()');
}

sub close
{
	my ($self) = @_;
	return unless $self->{pid};
	local $SIG{PIPE} = 'IGNORE';
	close $self->{in};
	close $self->{out};
	waitpid $self->{pid}, 0;
	$self->{pid} = 0;
}

sub DESTROY
{
	local $?;
	$_[0]->close;
}

1;
