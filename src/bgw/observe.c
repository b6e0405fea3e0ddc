/*
 * observe.c
 *	  What a scheduler does for those who watch: write down events that came
 *	  through the ring, put what tables hold where metrics are read, and judge
 *	  the alert conditions.
 *
 * Each of the three has a transaction of its own, so that one that fails does
 * not take the others with it when the scheduler starts anew.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/async.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "bgw/worker.h"
#include "catalog/event_log.h"
#include "catalog/facts.h"
#include "catalog/pfa_catalog.h"
#include "events/ring.h"
#include "metrics/alerts.h"

#define ALERT_CHANNEL "pfa_alert"

/* Sizes and row numbers change slowly, and the look costs a few files each. */
#define RELATIONS_MS 30000

/* Events taken at a time. */
#define BATCH 100

/* The same event within this time is counted in the row of the first one. */
#define REPEAT_MS  60000
#define REMEMBERED 64

typedef struct Remembered
{
	uint64 hash;
	int64 event_id; /* 0: not in use */
	TimestampTz at;
} Remembered;

static struct
{
	TimestampTz relations_at;
	Remembered events[REMEMBERED];
	int next;
} state;

/* False where the extension has gone: the scheduler finds that out itself. */
static bool
begin(void)
{
	pfa_worker_start_transaction();
	return OidIsValid(pfa_extension_oid(true));
}

/* ---- events ---- */

static uint64
hash_of(const PfaEvent *event)
{
	uint64 hash = event->level;

	hash = hash_combine64(hash,
						  hash_bytes((const unsigned char *) event->code,
									 (int) strlen(event->code)));
	hash = hash_combine64(hash,
						  hash_bytes((const unsigned char *)
										 event->organization_id,
									 (int) strlen(event->organization_id)));
	return hash_combine64(hash,
						  hash_bytes_extended((const unsigned char *)
												  event->message,
											  (int) strlen(event->message), 0));
}

static void
write_event(const PfaEvent *event)
{
	TimestampTz now = GetCurrentTimestamp();
	uint64 hash = hash_of(event);

	for (int i = 0; i < REMEMBERED; i++)
	{
		const Remembered *known = &state.events[i];

		if (known->event_id != 0 && known->hash == hash &&
			!TimestampDifferenceExceeds(known->at, now, REPEAT_MS) &&
			pfa_event_repeat(known->event_id, event->repeats))
			return;
	}
	state.events[state.next].hash = hash;
	state.events[state.next].at = now;
	state.events[state.next].event_id = pfa_event_insert(event);
	state.next = (state.next + 1) % REMEMBERED;
}

static void
write_events(void)
{
	PfaEvent *events;
	int nevents;

	do
	{
		pfa_worker_check();
		events = pfa_event_take(BATCH, &nevents);
		if (nevents == 0)
			break;
		if (begin())
		{
			for (int i = 0; i < nevents; i++)
				write_event(&events[i]);
		}
		pfa_worker_end_transaction();
		pfa_event_taken();
		pfree(events);
	} while (true);
}

/* ---- gauges and alerts ---- */

static void
look_at_relations(void)
{
	TimestampTz now = GetCurrentTimestamp();
	PfaRelationFacts *facts;
	int nfacts;

	if (state.relations_at != 0 &&
		!TimestampDifferenceExceeds(state.relations_at, now, RELATIONS_MS))
		return;
	state.relations_at = now;
	if (begin())
	{
		nfacts = pfa_facts_relations(&facts);
		pfa_gauges_relations(facts, nfacts);
		pfa_facts_views();
	}
	else
		pfa_gauges_forget();
	pfa_worker_end_transaction();
}

static void
tell(const PfaAlertChange *change)
{
	const PfaAlertEntry *alert = &change->alert;
	const char *organization = alert->organization_id[0] == '\0' ?
		NULL :
		alert->organization_id;
	const char *summary = pfa_alert_summary(alert->name);
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"alert\": ");
	escape_json(&json, alert->name);
	appendStringInfo(
		&json,
		", \"severity\": \"%s\", \"state\": \"%s\", \"organization_id\": ",
		alert->critical ? "critical" : "warning",
		change->resolved ? "resolved" : "firing");
	if (organization == NULL)
		appendStringInfoString(&json, "null");
	else
		escape_json(&json, organization);
	appendStringInfo(&json, ", \"value\": %g, \"threshold\": %g, \"summary\": ",
					 alert->value, alert->threshold);
	escape_json(&json, summary);
	appendStringInfoChar(&json, '}');
	Async_Notify(ALERT_CHANNEL, json.data);
	pfa_event_write(change->resolved ? LOG : WARNING, "alerts", organization, 0,
					change->resolved ? "alert_resolved" : "alert_firing",
					psprintf("%s: %s", alert->name, summary), json.data);
}

static void
judge(void)
{
	PfaOrganizationFacts *facts = NULL;
	PfaAlertChange *changes = NULL;
	int nfacts;
	int nchanges = 0;

	if (begin())
	{
		nfacts = pfa_facts_organizations(&facts);
		if (nfacts >= 0)
		{
			pfa_gauges_organizations(facts, nfacts);
			changes = pfa_alerts_judge(facts, nfacts, &nchanges);
		}
		for (int i = 0; i < nchanges; i++)
			tell(&changes[i]);
	}
	pfa_worker_end_transaction();
}

void
pfa_scheduler_observe(void)
{
	look_at_relations();
	write_events();
	judge();
}
