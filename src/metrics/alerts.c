/*
 * alerts.c
 *	  Alert conditions judged inside the server: see alerts.h.
 *
 * Names, thresholds and durations are those of the Prometheus rules, where
 * there is a metric for them.  Ratios are of what happened within a window, for
 * which a sample of the counters is kept each minute; before a window has
 * passed, it is as long as the process has lived.  No traffic is no condition:
 * every ratio has a least denominator.
 *
 * What holds stands in shared memory with the time since when, so a scheduler
 * that starts anew goes on where the last one was.
 */
#include "postgres.h"

#include <math.h>
#include <sys/statvfs.h>

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "metrics/alerts.h"
#include "metrics/connections.h"
#include "metrics/metrics_private.h"
#include "metrics/snapshot.h"

#define SAMPLES      61
#define SAMPLE_USECS (60 * USECS_PER_SEC)
#define MINUTE       60
#define HOUR         3600

typedef struct Definition
{
	const char *name;
	bool critical;
	double threshold;
	int seconds; /* that the condition must hold */
	const char *summary;
} Definition;

enum
{
	SYNC_FAILURES_CRITICAL,
	SYNC_FAILURES_HIGH,
	API_ERRORS_CRITICAL,
	API_ERRORS_HIGH,
	API_LATENCY,
	CONNECTIONS,
	DISK_CRITICAL,
	DISK_HIGH,
	SLOW_QUERIES,
	CACHE_HITS,
	SYNC_OVERDUE,
	WORKER_DOWN,
	CACHE_DOWN,
	CONFLICTS,
	ROWS_REJECTED,
	TLS_NOT_VERIFIED
};

static const Definition definitions[] = {
	[SYNC_FAILURES_CRITICAL] =
		{"PfaSyncFailureRateCritical", true, 0.5, 15 * MINUTE,
		 "more than half of the syncs of the last hour failed"},
	[SYNC_FAILURES_HIGH] =
		{"PfaSyncFailureRateHigh", false, 0.2, 30 * MINUTE,
		 "more than a fifth of the syncs of the last hour failed"},
	[API_ERRORS_CRITICAL] = {"PfaApiErrorRateCritical", true, 0.1, 5 * MINUTE,
							 "more than 10% of the calls failed"},
	[API_ERRORS_HIGH] = {"PfaApiErrorRateHigh", false, 0.05, 15 * MINUTE,
						 "more than 5% of the calls failed"},
	[API_LATENCY] = {"PfaApiLatencyHigh", true, 2, 5 * MINUTE,
					 "one call in twenty takes longer than 2 seconds"},
	[CONNECTIONS] = {"PfaDbConnectionsExhausted", true, 0.95, MINUTE,
					 "hardly a connection is left"},
	[DISK_CRITICAL] = {"PfaDiskUsageCritical", true, 0.9, 5 * MINUTE,
					   "the disk of the data directory is more than 90% full"},
	[DISK_HIGH] = {"PfaDiskUsageHigh", false, 0.75, 15 * MINUTE,
				   "the disk of the data directory is more than 75% full"},
	[SLOW_QUERIES] = {"PfaDbSlowQueries", false, 100, 0,
					  "more than 100 slow statements within an hour"},
	[CACHE_HITS] =
		{"PfaCacheHitRateLow", false, 0.5, 15 * MINUTE,
		 "less than half of the look-ups find their answer in the cache"},
	[SYNC_OVERDUE] = {"PfaSyncOverdue", false, 3, 5 * MINUTE,
					  "no sync has completed for more than three intervals"},
	[WORKER_DOWN] = {"PfaWorkerDown", true, 1, 2 * MINUTE,
					 "a worker of the extension does not run"},
	[CACHE_DOWN] = {"PfaCacheDown", false, 1, 5 * MINUTE,
					"the cache does not answer"},
	[CONFLICTS] = {"PfaConflictsWaiting", false, 0, HOUR,
				   "conflicts wait for a decision"},
	[ROWS_REJECTED] = {"PfaRowsRejected", false, 0, 15 * MINUTE,
					   "records of PEMS could not be mapped"},
	[TLS_NOT_VERIFIED] =
		{"PfaTlsNotVerified", false, 0, 0,
		 "the certificate of PEMS is not verified: verify_tls is off"},
};

typedef struct Sample
{
	TimestampTz at;
	PfaCallTotals calls;
	PfaCacheTotals cache;
	uint64 slow;
} Sample;

static struct
{
	Sample samples[SAMPLES]; /* a ring, one a minute */
	int newest;
	int nsamples;
} history;

/* What was found to hold in this round. */
typedef struct Round
{
	PfaAlertEntry found[PFA_METRICS_ALERTS];
	int nfound;
} Round;

/* ---- history ---- */

static void
take_sample(Sample *sample)
{
	PfaHistogramValues duration;

	memset(sample, 0, sizeof(*sample));
	sample->at = GetCurrentTimestamp();
	pfa_metrics_calls(&sample->calls, false);
	pfa_metrics_cache_totals(&sample->cache);
	sample->slow = pfa_metrics_statements(&duration);
}

static void
keep_sample(const Sample *sample)
{
	if (history.nsamples > 0 &&
		history.samples[history.newest].at + SAMPLE_USECS > sample->at)
		return;
	history.newest = (history.newest + 1) % SAMPLES;
	history.samples[history.newest] = *sample;
	history.nsamples = Min(history.nsamples + 1, SAMPLES);
}

/* The newest sample that is at least so old, or the oldest there is. */
static const Sample *
sample_before(const Sample *now, int seconds)
{
	const Sample *found = NULL;

	for (int i = 0; i < history.nsamples; i++)
	{
		found = &history.samples[(history.newest - i + SAMPLES) % SAMPLES];
		if (found->at <= now->at - seconds * USECS_PER_SEC)
			break;
	}
	return found;
}

/* ---- conditions ---- */

static void
found(Round *round, int which, const char *organization, double value)
{
	const Definition *definition = &definitions[which];
	PfaAlertEntry *entry;

	if (round->nfound >= PFA_METRICS_ALERTS)
		return;
	entry = &round->found[round->nfound++];
	memset(entry, 0, sizeof(*entry));
	strlcpy(entry->name, definition->name, sizeof(entry->name));
	if (organization != NULL)
		strlcpy(entry->organization_id, organization,
				sizeof(entry->organization_id));
	entry->critical = definition->critical;
	entry->threshold = definition->threshold;
	entry->value = value;
}

static void
above(Round *round, int which, const char *organization, double value)
{
	if (!isnan(value) && value > definitions[which].threshold)
		found(round, which, organization, value);
}

static void
judge_organization(Round *round, const PfaOrganizationFacts *facts,
				   TimestampTz now)
{
	const char *organization = facts->organization_id;
	TimestampTz since = pfa_metrics_waiting_since(facts->last_success_at,
												  facts->added_at);

	if (facts->finished_hour > 0)
	{
		double ratio = (double) facts->failed_hour / facts->finished_hour;

		above(round, SYNC_FAILURES_CRITICAL, organization, ratio);
		above(round, SYNC_FAILURES_HIGH, organization, ratio);
	}
	if (!facts->idle && facts->interval_us > 0)
		above(round, SYNC_OVERDUE, organization,
			  (double) (now - since) / facts->interval_us);
	above(round, CONFLICTS, organization, facts->conflicts_open);
	above(round, ROWS_REJECTED, organization, facts->rejected);
	above(round, TLS_NOT_VERIFIED, organization, facts->unverified);
}

/* Calls between two samples that failed, as a ratio; NaN without calls. */
static double
error_ratio(const Sample *now, const Sample *before)
{
	double failed = now->calls.failed - before->calls.failed;
	double all = failed + now->calls.succeeded - before->calls.succeeded;

	return all > 0 ? failed / all : NAN;
}

static double
latency(const Sample *now, const Sample *before)
{
	PfaHistogramValues window;

	for (int i = 0; i <= PFA_HISTOGRAM_BOUNDS; i++)
		window.buckets[i] = now->calls.duration.buckets[i] -
			before->calls.duration.buckets[i];
	window.sum = 0;
	return pfa_histogram_quantile(&window, &pfa_histogram_api, 0.95);
}

static void
judge_calls(Round *round, const Sample *now)
{
	above(round, API_ERRORS_CRITICAL, NULL,
		  error_ratio(now, sample_before(now, 5 * MINUTE)));
	above(round, API_ERRORS_HIGH, NULL,
		  error_ratio(now, sample_before(now, 10 * MINUTE)));
	above(round, API_LATENCY, NULL,
		  latency(now, sample_before(now, 5 * MINUTE)));
}

static void
judge_cache(Round *round, const Sample *now)
{
	const Sample *before = sample_before(now, 15 * MINUTE);
	double hits = now->cache.hits - before->cache.hits;
	double all = hits + now->cache.misses - before->cache.misses;

	/* A look-up a second at least: a handful says nothing. */
	if (all >= 15 * MINUTE && hits / all < definitions[CACHE_HITS].threshold)
		found(round, CACHE_HITS, NULL, hits / all);
	if (now->cache.state == 1)
		found(round, CACHE_DOWN, NULL, 0);
}

static void
judge_server(Round *round, const Sample *now)
{
	int64 counts[PFA_NCONNECTION_STATES];
	int64 connections = 0;
	PfaProcessSnapshot launcher;
	struct statvfs disk;

	pfa_connections_count(counts);
	for (int i = 0; i < PFA_NCONNECTION_STATES; i++)
		connections += counts[i];
	above(round, CONNECTIONS, NULL,
		  (double) connections / pfa_connections_max());
	above(round, SLOW_QUERIES, NULL,
		  now->slow - sample_before(now, HOUR)->slow);
	if (pfa_metrics_process(PFA_PROCESS_LAUNCHER, &launcher) &&
		launcher.pid == 0)
		found(round, WORKER_DOWN, NULL, 0);
	/* As df reckons: what only root may use counts as used. */
	if (statvfs(DataDir, &disk) == 0 && disk.f_blocks > 0)
	{
		double used = disk.f_blocks - disk.f_bfree;
		double ratio = used / Max(used + disk.f_bavail, 1);

		above(round, DISK_CRITICAL, NULL, ratio);
		above(round, DISK_HIGH, NULL, ratio);
	}
}

/* ---- what changed ---- */

static int
hold_seconds(const char *name)
{
	for (int i = 0; i < (int) lengthof(definitions); i++)
	{
		if (strcmp(definitions[i].name, name) == 0)
			return definitions[i].seconds;
	}
	return 0;
}

const char *
pfa_alert_summary(const char *name)
{
	for (int i = 0; i < (int) lengthof(definitions); i++)
	{
		if (strcmp(definitions[i].name, name) == 0)
			return definitions[i].summary;
	}
	return "";
}

static const PfaAlertEntry *
find_alert(const PfaAlertEntry *alerts, int n, const PfaAlertEntry *alert)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(alerts[i].name, alert->name) == 0 &&
			strcmp(alerts[i].organization_id, alert->organization_id) == 0)
			return &alerts[i];
	}
	return NULL;
}

static void
note_change(PfaAlertChange *changes, int *nchanges, const PfaAlertEntry *alert,
			bool resolved)
{
	changes[*nchanges].alert = *alert;
	changes[*nchanges].resolved = resolved;
	(*nchanges)++;
}

/* Put this round's findings in the place of the last one's. */
static void
replace(PfaDatabaseBlock *block, Round *round, PfaAlertChange *changes,
		int *nchanges)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < round->nfound; i++)
	{
		PfaAlertEntry *alert = &round->found[i];
		const PfaAlertEntry *before = find_alert(block->alerts,
												 PFA_METRICS_ALERTS, alert);

		alert->since = before != NULL ? before->since : now;
		alert->firing = alert->since +
				hold_seconds(alert->name) * USECS_PER_SEC <=
			now;
		if (alert->firing && (before == NULL || !before->firing))
			note_change(changes, nchanges, alert, false);
	}
	for (int i = 0; i < PFA_METRICS_ALERTS; i++)
	{
		const PfaAlertEntry *before = &block->alerts[i];

		if (before->name[0] != '\0' && before->firing &&
			find_alert(round->found, round->nfound, before) == NULL)
			note_change(changes, nchanges, before, true);
	}
	LWLockAcquire(pfa_metrics.lock, LW_EXCLUSIVE);
	memset(block->alerts, 0, sizeof(block->alerts));
	memcpy(block->alerts, round->found, sizeof(PfaAlertEntry) * round->nfound);
	LWLockRelease(pfa_metrics.lock);
}

PfaAlertChange *
pfa_alerts_judge(const PfaOrganizationFacts *facts, int nfacts, int *nchanges)
{
	PfaDatabaseBlock *block = pfa_metrics_block();
	PfaAlertChange *changes;
	Round *round;
	Sample now;

	*nchanges = 0;
	if (block == NULL)
		return NULL;
	round = palloc0(sizeof(Round));
	changes = palloc(sizeof(PfaAlertChange) * 2 * PFA_METRICS_ALERTS);
	take_sample(&now);
	if (history.nsamples == 0)
		keep_sample(&now);
	judge_server(round, &now);
	judge_calls(round, &now);
	judge_cache(round, &now);
	for (int i = 0; i < nfacts; i++)
		judge_organization(round, &facts[i], now.at);
	keep_sample(&now);
	replace(block, round, changes, nchanges);
	pfree(round);
	return changes;
}

static int
firing_first(const void *a, const void *b)
{
	const PfaAlertEntry *x = a;
	const PfaAlertEntry *y = b;

	if (x->firing != y->firing)
		return x->firing ? -1 : 1;
	if (x->critical != y->critical)
		return x->critical ? -1 : 1;
	return strcmp(x->organization_id, y->organization_id);
}

PfaAlertEntry *
pfa_alerts_list(int *n)
{
	PfaDatabaseBlock *block = pfa_metrics_block();
	PfaAlertEntry *alerts;

	*n = 0;
	if (block == NULL)
		return NULL;
	alerts = palloc(sizeof(block->alerts));
	LWLockAcquire(pfa_metrics.lock, LW_SHARED);
	memcpy(alerts, block->alerts, sizeof(block->alerts));
	LWLockRelease(pfa_metrics.lock);
	while (*n < PFA_METRICS_ALERTS && alerts[*n].name[0] != '\0')
		(*n)++;
	qsort(alerts, *n, sizeof(PfaAlertEntry), firing_first);
	return alerts;
}
