/*
 * schedule.c
 *	  When an organization is due.
 *
 * Due times are moved when a run ends and nowhere else, apart from a change of
 * credentials.  They are computed here and not in SQL, where a day would have
 * 23 hours in some time zones once a year.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "catalog/pfa_catalog.h"
#include "catalog/schedule.h"
#include "catalog/spi.h"

#define BACKOFF_SECONDS       30
#define BACKOFF_MAX_DOUBLINGS 20
#define BACKOFF_JITTER        0.2
#define DENIED_SECONDS        3600
#define PRUNE_ROWS            1000

/*
 * Organizations that wait for their due time; $1 and $2 are this cluster and
 * this database, see sync_run.c.
 */
#define WAITING \
	"FROM @.@.pfa_organization o LEFT JOIN @.@.pfa_sync_state s " \
	"ON s.organization_id = o.organization_id " \
	"WHERE NOT o.paused AND o.system_identifier = $1 " \
	"AND o.database_oid = $2 AND NOT EXISTS (SELECT 1 " \
	"FROM @.@.pfa_sync_run r WHERE r.organization_id = o.organization_id " \
	"AND r.direction = 'read' AND r.status IN ('queued', 'running')) "

static void
fill_identity(Datum *values)
{
	values[0] = Int64GetDatum((int64) GetSystemIdentifier());
	values[1] = ObjectIdGetDatum(MyDatabaseId);
}

int
pfa_schedule_due(void)
{
	Oid argtypes[3] = {INT8OID, OIDOID, TIMESTAMPTZOID};
	Datum values[3];

	fill_identity(values);
	values[2] = TimestampTzGetDatum(GetCurrentTimestamp());

	/*
	 * The row lock keeps out whoever is about to request a run of the same
	 * organization: the insert would wait for that transaction otherwise.
	 *
	 * Nothing is ever put off for longer than its interval or an hour, so a
	 * due time far ahead dates from before the clock was set back.
	 */
	(void) pfa_spi_run(
		"WITH due AS MATERIALIZED (SELECT o.organization_id " WAITING
		"AND (COALESCE(s.next_sync_at, '-infinity') <= $3 "
		"OR s.next_sync_at > $3 + 2 * GREATEST(o.sync_interval, "
		"'1 hour')) "
		"ORDER BY COALESCE(s.next_sync_at, '-infinity'), "
		"o.organization_id FOR UPDATE OF o SKIP LOCKED) "
		"INSERT INTO @.@.pfa_sync_run (organization_id, mode) "
		"SELECT organization_id, 'auto' FROM due "
		"ON CONFLICT (organization_id, direction) "
		"WHERE status IN ('queued', 'running') DO NOTHING",
		3, argtypes, values, NULL);
	return pfa_run_count_queued();
}

TimestampTz
pfa_schedule_next_due(void)
{
	Oid argtypes[2] = {INT8OID, OIDOID};
	Datum values[2];
	TimestampTz next = DT_NOEND;
	Datum value;
	bool isnull;

	fill_identity(values);
	pfa_spi_execute(
		"SELECT pg_catalog.min(COALESCE(s.next_sync_at, '-infinity')) " WAITING,
		2, argtypes, values, NULL, false);
	value = pfa_spi_get_datum(0, 1, &isnull);
	if (!isnull)
		next = DatumGetTimestampTz(value);
	pfa_spi_finish();
	/* What is due still has a locked row; a turn for it must not follow at once. */
	return Max(next, GetCurrentTimestamp() + USECS_PER_SEC);
}

/* ---- after a run ---- */

static int64
with_jitter(int64 usecs)
{
	double factor = 1.0 +
		BACKOFF_JITTER * (2.0 * pg_prng_double(&pg_global_prng_state) - 1.0);

	return (int64) (usecs * factor);
}

/* Doubles from failure to failure, up to an hour or the interval. */
static int64
backoff(int failures, int64 interval)
{
	int doublings = Min(Max(failures - 1, 0), BACKOFF_MAX_DOUBLINGS);
	int64 usecs = (BACKOFF_SECONDS * USECS_PER_SEC) << doublings;

	return with_jitter(Min(usecs, Max(interval, USECS_PER_HOUR)));
}

/*
 * Stay on the beat of the earlier due times, so that a run's length does not
 * add up; but not where that is past, nor where a run that was requested
 * before it was due would put the next one off by more than an interval.
 */
static TimestampTz
next_beat(TimestampTz previous, TimestampTz now, int64 interval)
{
	if (!TIMESTAMP_NOT_FINITE(previous) && previous + interval > now &&
		previous <= now)
		return previous + interval;
	return now + interval;
}

static TimestampTz
next_due(const PfaOrganization *organization, PfaScheduleOutcome outcome,
		 int failures, TimestampTz now)
{
	int64 interval = organization->sync_interval_us;

	switch (outcome)
	{
		case PFA_OUTCOME_COMPLETED:
			return next_beat(organization->next_sync_at, now, interval);
		case PFA_OUTCOME_FAILED:
			return now + backoff(failures, interval);
		case PFA_OUTCOME_DENIED:
			return now + Max(interval, DENIED_SECONDS * USECS_PER_SEC);
		case PFA_OUTCOME_CANCELLED:
			break;
	}
	return now + interval;
}

void
pfa_schedule_finished(const char *organization_id, PfaScheduleOutcome outcome,
					  const char *error)
{
	Oid argtypes[6] = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
					   INT4OID, TEXTOID,        BOOLOID};
	Datum values[6];
	char nulls[6] = {' ', ' ', ' ', ' ', ' ', ' '};
	PfaOrganization *organization = pfa_organization_get(organization_id);
	TimestampTz now = GetCurrentTimestamp();
	bool completed = outcome == PFA_OUTCOME_COMPLETED;
	int failures;

	if (organization == NULL)
		return;
	failures = completed ?
		0 :
		organization->failures + (outcome != PFA_OUTCOME_CANCELLED);

	values[0] = CStringGetTextDatum(organization_id);
	values[1] = TimestampTzGetDatum(
		next_due(organization, outcome, failures, now));
	values[2] = TimestampTzGetDatum(now);
	nulls[2] = completed ? ' ' : 'n';
	values[3] = Int32GetDatum(failures);
	pfa_spi_set_text(values, nulls, 4, completed ? NULL : error);
	/* A cancelled run says nothing about the source. */
	values[5] = BoolGetDatum(outcome != PFA_OUTCOME_CANCELLED);
	(void) pfa_spi_run("INSERT INTO @.@.pfa_sync_state AS s "
					   "(organization_id, next_sync_at, last_success_at, "
					   "failures, last_error) "
					   "SELECT organization_id, $2, $3, $4, "
					   "CASE WHEN $6 THEN $5 END "
					   "FROM @.@.pfa_organization WHERE organization_id = $1 "
					   "ON CONFLICT (organization_id) DO UPDATE SET "
					   "next_sync_at = excluded.next_sync_at, "
					   "last_success_at = COALESCE(excluded.last_success_at, "
					   "s.last_success_at), "
					   "failures = excluded.failures, "
					   "last_error = CASE WHEN $6 THEN excluded.last_error "
					   "ELSE s.last_error END",
					   6, argtypes, values, nulls);
}

int
pfa_schedule_credentials_changed(const char *server_name)
{
	Oid argtypes[2] = {TEXTOID, TIMESTAMPTZOID};
	Datum values[2] = {CStringGetTextDatum(server_name),
					   TimestampTzGetDatum(GetCurrentTimestamp())};

	return (
		int) pfa_spi_run("UPDATE @.@.pfa_sync_state s SET next_sync_at = $2 "
						 "FROM @.@.pfa_organization o "
						 "WHERE o.organization_id = s.organization_id "
						 "AND o.server_name = $1::name "
						 "AND s.failures > 0 AND s.next_sync_at > $2",
						 2, argtypes, values, NULL);
}

/* ---- history ---- */

static bool
prune(const char *text, int minutes)
{
	Oid argtypes[2] = {TIMESTAMPTZOID, INT4OID};
	Datum values[2];

	if (minutes == 0)
		return false;
	values[0] = TimestampTzGetDatum(GetCurrentTimestamp() -
									minutes * USECS_PER_MINUTE);
	values[1] = Int32GetDatum(PRUNE_ROWS);
	return pfa_spi_run(text, 2, argtypes, values, NULL) >= PRUNE_ROWS;
}

bool
pfa_history_prune(int run_minutes, int event_minutes)
{
	bool more;

	more = prune("DELETE FROM @.@.pfa_sync_run WHERE run_id = ANY (ARRAY("
				 "SELECT run_id FROM @.@.pfa_sync_run "
				 "WHERE status NOT IN ('queued', 'running') "
				 "AND finished_at < $1 ORDER BY finished_at LIMIT $2))",
				 run_minutes);
	if (prune("DELETE FROM @.@.pfa_event_log WHERE event_id = ANY (ARRAY("
			  "SELECT event_id FROM @.@.pfa_event_log "
			  "WHERE logged_at < $1 ORDER BY logged_at LIMIT $2))",
			  event_minutes))
		more = true;
	return more;
}
