/*
 * health_api.c
 *	  pfa_health(), pfa_alerts, pfa_workers: is all well, and if not, what?
 *
 * All from shared memory, so that they answer when tables are locked, broken
 * or gone, which is when they are asked.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "guc.h"
#include "metrics/alerts.h"
#include "metrics/snapshot.h"
#include "registry.h"

PG_FUNCTION_INFO_V1(pfa_health);
PG_FUNCTION_INFO_V1(pfa_alerts_rows);
PG_FUNCTION_INFO_V1(pfa_workers_rows);

/* A scheduler takes a turn each 10 seconds. */
#define LATE_USECS (60 * USECS_PER_SEC)
#define DOWN_USECS (120 * USECS_PER_SEC)

/* ---- health ---- */

typedef enum Health
{
	HEALTH_OK,
	HEALTH_DEGRADED,
	HEALTH_DOWN
} Health;

typedef struct Report
{
	StringInfoData json;
	Health worst;
	int nchecks;
} Report;

static const char *
status_name(Health status)
{
	return status == HEALTH_OK    ? "ok" :
		status == HEALTH_DEGRADED ? "degraded" :
									"down";
}

static void
add_check(Report *report, const char *name, Health status, const char *message)
{
	appendStringInfo(&report->json,
					 "%s\"%s\": {\"status\": \"%s\", \"message\": ",
					 report->nchecks++ > 0 ? ", " : "", name,
					 status_name(status));
	escape_json(&report->json, message);
	appendStringInfoChar(&report->json, '}');
	report->worst = Max(report->worst, status);
}

static void
check_processes(Report *report)
{
	PfaProcessSnapshot process;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz facts_at = pfa_metrics_facts_at();

	if (RecoveryInProgress())
	{
		add_check(report, "workers", HEALTH_OK,
				  "a standby has none; they start when it is promoted");
		return;
	}
	if (!pfa_metrics_process(PFA_PROCESS_LAUNCHER, &process) ||
		process.pid == 0)
	{
		add_check(report, "launcher", HEALTH_DOWN, "it does not run");
		return;
	}
	add_check(report, "launcher", HEALTH_OK, "it runs");
	(void) pfa_metrics_process(PFA_PROCESS_SCHEDULER, &process);
	if (process.pid == 0)
		add_check(report, "scheduler", HEALTH_DOWN, "it does not run");
	else if (facts_at == 0 ? process.started_at + LATE_USECS < now :
							 facts_at + LATE_USECS < now)
		add_check(
			report, "scheduler", HEALTH_DEGRADED,
			process.error[0] == '\0' ?
				"it has not looked at the tables for a minute" :
				psprintf("it has not looked at the tables for a minute: %s",
						 process.error));
	else
		add_check(report, "scheduler", HEALTH_OK, "it runs");
}

static void
check_syncs(Report *report)
{
	PfaOrganizationSnapshot *organizations;
	int n = pfa_metrics_snapshot(&organizations);
	int failing = 0;
	int idle = 0;
	int64 conflicts = 0;

	for (int i = 0; i < n; i++)
	{
		failing += !organizations[i].idle && organizations[i].failures > 0;
		idle += organizations[i].idle;
		conflicts += organizations[i].conflicts_open;
	}
	if (!pfa_guc_enabled)
		add_check(report, "sync", HEALTH_DEGRADED,
				  "pfa_vanguard.enabled is off");
	else
		add_check(report, "sync", failing > 0 ? HEALTH_DEGRADED : HEALTH_OK,
				  psprintf("%d organizations, %d failing, %d paused", n,
						   failing, idle));
	add_check(report, "conflicts", conflicts > 0 ? HEALTH_DEGRADED : HEALTH_OK,
			  psprintf("%lld open", (long long) conflicts));
}

static void
check_disk(Report *report)
{
	if (pfa_database_disk_full_at() != 0)
		add_check(
			report, "disk", HEALTH_DOWN,
			"it is full: syncs wait for room, pfa_sync_now() tries at once");
}

static void
check_cache(Report *report)
{
	PfaCacheTotals totals;

	pfa_metrics_cache_totals(&totals);
	if (totals.state != 0)
		add_check(report, "cache",
				  totals.state == 2 ? HEALTH_OK : HEALTH_DEGRADED,
				  totals.state == 2 ? "it answers" : "it does not answer");
}

static void
check_alerts(Report *report)
{
	PfaAlertEntry *alerts;
	int n;
	int firing = 0;

	alerts = pfa_alerts_list(&n);
	while (firing < n && alerts[firing].firing)
		firing++;
	add_check(report, "alerts", firing > 0 ? HEALTH_DEGRADED : HEALTH_OK,
			  firing == 0 ?
				  "none" :
				  psprintf("%d firing, first %s", firing, alerts[0].name));
	if (pfa_metrics_events_dropped() > 0)
		add_check(report, "events", HEALTH_DEGRADED,
				  psprintf("%lld were dropped since the server's start",
						   (long long) pfa_metrics_events_dropped()));
}

Datum
pfa_health(PG_FUNCTION_ARGS)
{
	Report report = {0};
	char *json;

	initStringInfo(&report.json);
	if (!pfa_registry_available())
		add_check(
			&report, "workers", HEALTH_DEGRADED,
			"pfa_vanguard is not in shared_preload_libraries: nothing is synced in the background, nothing is counted");
	else
	{
		check_processes(&report);
		check_syncs(&report);
		check_disk(&report);
		check_cache(&report);
		check_alerts(&report);
	}
	json = psprintf("{\"status\": \"%s\", \"checks\": {%s}}",
					status_name(report.worst), report.json.data);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

/* ---- alerts ---- */

static void
put_alert(ReturnSetInfo *result, const PfaAlertEntry *alert)
{
	Datum values[8];
	bool nulls[8] = {false};

	values[0] = CStringGetTextDatum(alert->name);
	values[1] = CStringGetTextDatum(alert->critical ? "critical" : "warning");
	nulls[2] = alert->organization_id[0] == '\0';
	values[2] = CStringGetTextDatum(alert->organization_id);
	values[3] = CStringGetTextDatum(alert->firing ? "firing" : "pending");
	values[4] = TimestampTzGetDatum(alert->since);
	values[5] = Float8GetDatum(alert->value);
	values[6] = Float8GetDatum(alert->threshold);
	values[7] = CStringGetTextDatum(pfa_alert_summary(alert->name));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* The scheduler judges all conditions but its own absence. */
static void
put_missing_scheduler(ReturnSetInfo *result)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz since = Max(pfa_metrics_facts_at(), pfa_metrics_started_at());
	PfaAlertEntry alert = {0};

	if (RecoveryInProgress() || since == 0 || since + LATE_USECS > now)
		return;
	strlcpy(alert.name, "PfaWorkerDown", sizeof(alert.name));
	alert.critical = true;
	alert.firing = since + DOWN_USECS < now;
	alert.since = since;
	alert.threshold = 1;
	put_alert(result, &alert);
}

Datum
pfa_alerts_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	PfaAlertEntry *alerts;
	int n;

	InitMaterializedSRF(fcinfo, 0);
	alerts = pfa_alerts_list(&n);
	put_missing_scheduler(result);
	for (int i = 0; i < n; i++)
		put_alert(result, &alerts[i]);
	return (Datum) 0;
}

/* ---- workers ---- */

static void
put_time(Datum *values, bool *nulls, int i, TimestampTz time)
{
	nulls[i] = time == 0;
	values[i] = TimestampTzGetDatum(time);
}

static void
put_process(ReturnSetInfo *result, const char *name, PfaProcess which)
{
	PfaProcessSnapshot process;
	Datum values[9];
	bool nulls[9] = {false};

	if (!pfa_metrics_process(which, &process))
		return;
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(process.pid != 0 ? "running" : "down");
	nulls[2] = process.pid == 0;
	values[2] = Int32GetDatum(process.pid);
	nulls[3] = true;
	nulls[4] = true;
	put_time(values, nulls, 5, process.started_at);
	values[6] = Int64GetDatum((int64) process.restarts);
	nulls[7] = process.error[0] == '\0';
	values[7] = CStringGetTextDatum(process.error);
	put_time(values, nulls, 8, process.failed_at);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_sync(ReturnSetInfo *result, PfaSlot *slot, int pid, const char *name)
{
	Datum values[9];
	bool nulls[9] = {false};
	char organization[PFA_ORGANIZATION_LEN];

	strlcpy(organization, slot->organization_id, sizeof(organization));
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum("running");
	values[2] = Int32GetDatum(pid);
	values[3] = CStringGetTextDatum(organization);
	values[4] = Int64GetDatum(slot->run_id);
	put_time(values, nulls, 5, slot->started_at);
	nulls[6] = true;
	nulls[7] = true;
	nulls[8] = true;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
pfa_workers_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	put_process(result, "launcher", PFA_PROCESS_LAUNCHER);
	put_process(result, "scheduler", PFA_PROCESS_SCHEDULER);
	for (int i = 0; pfa_registry_available() && i < PFA_MAX_SLOTS; i++)
	{
		PfaSlot *slot = pfa_slot_by_index(i);
		int helper = slot->helper_pid;

		if (!pg_atomic_read_u32(&slot->in_use) ||
			slot->database != MyDatabaseId)
			continue;
		put_sync(result, slot, slot->leader_pid, "sync");
		if (helper != 0)
			put_sync(result, slot, helper, "sync helper");
	}
	return (Datum) 0;
}
