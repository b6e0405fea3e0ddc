/*
 * metrics_srf.c
 *	  The read side: rows for the views that an exporter scrapes.
 *
 * Each function builds its whole result before the first row leaves, from
 * shared memory alone: no table, no catalog, no lock that anybody holds for
 * longer than it takes to copy an entry.  An exporter takes an error in the
 * middle of the rows for their end, one pair of equal labels for a reason to
 * answer nothing at all, and NULL for NaN; so there is no such error, labels
 * are unique because they are the keys of what is counted, and a value that
 * does not exist is a row that is left out.
 *
 * Without shared memory all are empty, but for what the server itself knows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "metrics/connections.h"
#include "metrics/metrics_private.h"
#include "metrics/snapshot.h"
#include "registry.h"

PG_FUNCTION_INFO_V1(pfa_metrics_sync);
PG_FUNCTION_INFO_V1(pfa_metrics_sync_errors);
PG_FUNCTION_INFO_V1(pfa_metrics_sync_rows);
PG_FUNCTION_INFO_V1(pfa_metrics_sync_organizations);
PG_FUNCTION_INFO_V1(pfa_metrics_sync_duration);
PG_FUNCTION_INFO_V1(pfa_metrics_sync_records);
PG_FUNCTION_INFO_V1(pfa_metrics_write_backs);
PG_FUNCTION_INFO_V1(pfa_metrics_api);
PG_FUNCTION_INFO_V1(pfa_metrics_db);
PG_FUNCTION_INFO_V1(pfa_metrics_db_connections);
PG_FUNCTION_INFO_V1(pfa_metrics_db_relations);
PG_FUNCTION_INFO_V1(pfa_metrics_cache);
PG_FUNCTION_INFO_V1(pfa_metrics_cache_keyspaces);
PG_FUNCTION_INFO_V1(pfa_metrics_cache_operations);
PG_FUNCTION_INFO_V1(pfa_metrics_workers);
PG_FUNCTION_INFO_V1(pfa_metrics_mv);
PG_FUNCTION_INFO_V1(pfa_metrics_events);
PG_FUNCTION_INFO_V1(pfa_metrics_server);

#define MAX_COLUMNS 12

static const char *const mode_names[PFA_NMODES] = {"full", "delta", "force"};
static const char *const error_names[PFA_NERROR_KINDS] = {"network", "denied",
														  "answer",  "guard",
														  "setup",   "worker",
														  "database"};
static const char *const row_names[PFA_NROW_KINDS] = {"inserted", "updated",
													  "deleted", "unchanged",
													  "rejected"};
static const char *const write_names[PFA_NWRITE_RESULTS] = {"success",
															"conflict",
															"failed",
															"retried"};
static const char *const state_names[PFA_NCONNECTION_STATES] =
	{"active", "idle", "idle_in_transaction", "waiting"};
static const char *const keyspace_names[PFA_NKEYSPACES] =
	{"pfa_data", "pfa_stats", "org_config", "user_perms", "ai_query", "other"};
static const char *const operation_names[PFA_NCACHE_OPERATIONS] =
	{"get", "set", "invalidate"};
static const char *const view_names[PFA_NVIEWS] = {"mv_pfa_kpi_stats",
												   "mv_pfa_timeline_bounds"};
static const char *const process_names[PFA_NPROCESSES] = {"launcher",
														  "scheduler", "sync"};

/* ---- rows ---- */

typedef struct Row
{
	ReturnSetInfo *result;
	int n;
	Datum values[MAX_COLUMNS];
	bool nulls[MAX_COLUMNS];
} Row;

static void
begin_rows(Row *row, FunctionCallInfo fcinfo)
{
	memset(row, 0, sizeof(Row));
	InitMaterializedSRF(fcinfo, 0);
	row->result = (ReturnSetInfo *) fcinfo->resultinfo;
}

static void
add_label(Row *row, const char *label)
{
	row->values[row->n++] = CStringGetTextDatum(label);
}

static void
add_count(Row *row, uint64 count)
{
	row->values[row->n++] = Int64GetDatum((int64) count);
}

static void
add_float(Row *row, double value)
{
	row->values[row->n++] = Float8GetDatum(value);
}

/* Upper bounds, cumulative counts, sum, count. */
static void
add_histogram(Row *row, const PfaHistogramSpec *spec,
			  const PfaHistogramValues *values)
{
	Datum bounds[PFA_HISTOGRAM_BOUNDS];
	Datum counts[PFA_HISTOGRAM_BOUNDS];
	uint64 count = 0;

	for (int i = 0; i < spec->nbounds; i++)
	{
		count += values->buckets[i];
		bounds[i] = Float8GetDatum(pfa_histogram_bound(spec, i));
		counts[i] = Int64GetDatum((int64) count);
	}
	row->values[row->n++] = PointerGetDatum(
		construct_array(bounds, spec->nbounds, FLOAT8OID, sizeof(float8),
						FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	row->values[row->n++] = PointerGetDatum(
		construct_array(counts, spec->nbounds, INT8OID, sizeof(int64),
						FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	add_float(row, values->sum / spec->divisor);
	add_count(row, pfa_histogram_count(values));
}

static void
end_row(Row *row)
{
	Assert(row->n == row->result->setDesc->natts);
	tuplestore_putvalues(row->result->setResult, row->result->setDesc,
						 row->values, row->nulls);
	row->n = 0;
}

static double
unix_time(TimestampTz time)
{
	return time == 0 ? 0 :
					   time / (double) USECS_PER_SEC +
			(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (double) SECS_PER_DAY;
}

/* ---- syncs ---- */

Datum
pfa_metrics_sync(PG_FUNCTION_ARGS)
{
	PfaOrganizationSnapshot *organizations;
	int n = pfa_metrics_snapshot(&organizations);
	Row row;

	begin_rows(&row, fcinfo);
	for (int i = 0; i < n; i++)
	{
		for (int mode = 0; mode < PFA_NMODES; mode++)
		{
			const uint64 *finished = organizations[i].finished[mode];

			add_label(&row, organizations[i].organization_id);
			add_label(&row, mode_names[mode]);
			/* The sum of its parts: a ratio to it never passes 1. */
			add_count(&row,
					  finished[PFA_SYNC_SUCCESS] + finished[PFA_SYNC_FAILED] +
						  finished[PFA_SYNC_CANCELLED]);
			add_count(&row, finished[PFA_SYNC_SUCCESS]);
			add_count(&row, finished[PFA_SYNC_FAILED]);
			add_float(&row, organizations[i].busy_us[mode] / 1e6);
			end_row(&row);
		}
	}
	return (Datum) 0;
}

/* A row an organization and label of a closed list. */
static void
put_organization_counts(FunctionCallInfo fcinfo, const char *const *names,
						int nnames, size_t offset)
{
	PfaOrganizationSnapshot *organizations;
	int n = pfa_metrics_snapshot(&organizations);
	Row row;

	begin_rows(&row, fcinfo);
	for (int i = 0; i < n; i++)
	{
		const uint64 *counts =
			(const uint64 *) ((const char *) &organizations[i] + offset);

		for (int j = 0; j < nnames; j++)
		{
			add_label(&row, organizations[i].organization_id);
			add_label(&row, names[j]);
			add_count(&row, counts[j]);
			end_row(&row);
		}
	}
}

Datum
pfa_metrics_sync_errors(PG_FUNCTION_ARGS)
{
	put_organization_counts(fcinfo, error_names, PFA_NERROR_KINDS,
							offsetof(PfaOrganizationSnapshot, errors));
	return (Datum) 0;
}

Datum
pfa_metrics_sync_rows(PG_FUNCTION_ARGS)
{
	put_organization_counts(fcinfo, row_names, PFA_NROW_KINDS,
							offsetof(PfaOrganizationSnapshot, rows));
	return (Datum) 0;
}

Datum
pfa_metrics_write_backs(PG_FUNCTION_ARGS)
{
	put_organization_counts(fcinfo, write_names, PFA_NWRITE_RESULTS,
							offsetof(PfaOrganizationSnapshot, writes));
	return (Datum) 0;
}

Datum
pfa_metrics_sync_organizations(PG_FUNCTION_ARGS)
{
	PfaOrganizationSnapshot *organizations;
	int n = pfa_metrics_snapshot(&organizations);
	TimestampTz now = GetCurrentTimestamp();
	Row row;

	begin_rows(&row, fcinfo);
	for (int i = 0; i < n; i++)
	{
		const PfaOrganizationSnapshot *o = &organizations[i];

		add_label(&row, o->organization_id);
		add_count(&row, o->api_calls);
		add_count(&row,
				  o->rows[PFA_ROWS_INSERTED] + o->rows[PFA_ROWS_UPDATED] +
					  o->rows[PFA_ROWS_DELETED]);
		add_count(&row, o->retries);
		add_float(&row, o->records_per_second);
		add_float(&row, unix_time(o->last_success_at));
		add_float(&row, Max(now - o->waiting_since, 0) / 1e6);
		add_count(&row, o->running);
		add_float(&row, o->idle ? 0 : o->interval_us / 1e6);
		add_count(&row, o->rejected);
		add_count(&row, o->write_back_pending);
		add_count(&row, o->conflicts_open);
		end_row(&row);
	}
	return (Datum) 0;
}

static void
put_mode_histograms(FunctionCallInfo fcinfo, PfaHistogram *histograms,
					const PfaHistogramSpec *spec)
{
	Row row;

	begin_rows(&row, fcinfo);
	for (int mode = 0; histograms != NULL && mode < PFA_NMODES; mode++)
	{
		PfaHistogramValues values = {0};

		pfa_histogram_read(&histograms[mode], &values);
		add_label(&row, mode_names[mode]);
		add_histogram(&row, spec, &values);
		end_row(&row);
	}
}

Datum
pfa_metrics_sync_duration(PG_FUNCTION_ARGS)
{
	PfaDatabaseBlock *block = pfa_metrics_block();

	put_mode_histograms(fcinfo, block ? block->sync_duration : NULL,
						&pfa_histogram_sync);
	return (Datum) 0;
}

Datum
pfa_metrics_sync_records(PG_FUNCTION_ARGS)
{
	PfaDatabaseBlock *block = pfa_metrics_block();

	put_mode_histograms(fcinfo, block ? block->sync_records : NULL,
						&pfa_histogram_records);
	return (Datum) 0;
}

/* ---- API ---- */

Datum
pfa_metrics_api(PG_FUNCTION_ARGS)
{
	PfaDatabaseBlock *block = pfa_metrics_block();
	int in_flight[PFA_NENDPOINTS];
	Row row;

	begin_rows(&row, fcinfo);
	pfa_metrics_in_flight(in_flight);
	for (int i = 0; block != NULL && i < PFA_NENDPOINTS; i++)
	{
		PfaEndpointCounters *counters = &block->endpoints[i];
		uint64 failed = pg_atomic_read_u64(&counters->failed);
		PfaHistogramValues duration = {0};
		PfaHistogramValues response = {0};

		pfa_histogram_read(&counters->duration, &duration);
		pfa_histogram_read(&counters->response, &response);
		add_label(&row, pfa_endpoint_names[i]);
		add_count(&row, failed + pg_atomic_read_u64(&counters->succeeded));
		add_count(&row, failed);
		add_count(&row, in_flight[i]);
		add_histogram(&row, &pfa_histogram_api, &duration);
		add_histogram(&row, &pfa_histogram_response, &response);
		end_row(&row);
	}
	return (Datum) 0;
}

/* ---- database ---- */

Datum
pfa_metrics_db(PG_FUNCTION_ARGS)
{
	PfaHistogramValues duration;
	uint64 slow = pfa_metrics_statements(&duration);
	Row row;

	begin_rows(&row, fcinfo);
	add_count(&row, pfa_histogram_count(&duration));
	add_count(&row, slow);
	add_count(&row, pfa_connections_max());
	add_histogram(&row, &pfa_histogram_statement, &duration);
	end_row(&row);
	return (Datum) 0;
}

Datum
pfa_metrics_db_connections(PG_FUNCTION_ARGS)
{
	int64 counts[PFA_NCONNECTION_STATES];
	Row row;

	begin_rows(&row, fcinfo);
	pfa_connections_count(counts);
	for (int i = 0; i < PFA_NCONNECTION_STATES; i++)
	{
		add_label(&row, state_names[i]);
		add_count(&row, counts[i]);
		end_row(&row);
	}
	return (Datum) 0;
}

Datum
pfa_metrics_db_relations(PG_FUNCTION_ARGS)
{
	PfaDatabaseBlock *block = pfa_metrics_block();
	uint32 n = block == NULL ? 0 : pg_atomic_read_u32(&block->noids);
	Row row;

	begin_rows(&row, fcinfo);
	for (uint32 i = 0; i < n; i++)
	{
		PfaRelationEntry *entry = &block->relations[i];
		double hit = pg_atomic_read_u64(&entry->index_hit);
		double read = pg_atomic_read_u64(&entry->index_read);

		add_label(&row, NameStr(entry->name));
		add_count(&row, pg_atomic_read_u64(&entry->size));
		add_count(&row, pg_atomic_read_u64(&entry->rows));
		row.nulls[row.n] = hit + read <= 0;
		add_float(&row, hit + read <= 0 ? 0 : hit / (hit + read));
		add_count(&row, pg_atomic_read_u64(&entry->slow));
		add_float(&row, pg_atomic_read_u64(&entry->slow_ns) / 1e9);
		end_row(&row);
	}
	return (Datum) 0;
}

/* ---- cache ---- */

Datum
pfa_metrics_cache(PG_FUNCTION_ARGS)
{
	PfaDatabaseBlock *block = pfa_metrics_block();
	double hits = 0;
	double misses = 0;
	uint64 state = block == NULL ? 0 : pg_atomic_read_u64(&block->cache_state);
	Row row;

	begin_rows(&row, fcinfo);
	if (state == 0)
		return (Datum) 0;
	for (int i = 0; i < PFA_NKEYSPACES; i++)
	{
		hits += pg_atomic_read_u64(&block->cache_hits[i]);
		misses += pg_atomic_read_u64(&block->cache_misses[i]);
	}
	add_count(&row, state == 2);
	add_count(&row, pg_atomic_read_u64(&block->cache_size));
	row.nulls[row.n] = hits + misses <= 0;
	add_float(&row, hits + misses <= 0 ? 0 : hits / (hits + misses));
	end_row(&row);
	return (Datum) 0;
}

Datum
pfa_metrics_cache_keyspaces(PG_FUNCTION_ARGS)
{
	PfaDatabaseBlock *block = pfa_metrics_block();
	Row row;

	begin_rows(&row, fcinfo);
	for (int i = 0; block != NULL && i < PFA_NKEYSPACES; i++)
	{
		add_label(&row, keyspace_names[i]);
		add_count(&row, pg_atomic_read_u64(&block->cache_hits[i]));
		add_count(&row, pg_atomic_read_u64(&block->cache_misses[i]));
		add_count(&row, pg_atomic_read_u64(&block->cache_evictions[i]));
		end_row(&row);
	}
	return (Datum) 0;
}

Datum
pfa_metrics_cache_operations(PG_FUNCTION_ARGS)
{
	PfaDatabaseBlock *block = pfa_metrics_block();
	Row row;

	begin_rows(&row, fcinfo);
	for (int i = 0; block != NULL && i < PFA_NCACHE_OPERATIONS; i++)
	{
		PfaHistogramValues duration = {0};

		pfa_histogram_read(&block->cache_duration[i], &duration);
		add_label(&row, operation_names[i]);
		add_histogram(&row, &pfa_histogram_cache, &duration);
		end_row(&row);
	}
	return (Datum) 0;
}

/* ---- processes, views, events ---- */

/* A sync worker comes and goes with the work, so it is up or not needed. */
Datum
pfa_metrics_workers(PG_FUNCTION_ARGS)
{
	Row row;

	begin_rows(&row, fcinfo);
	for (int i = 0; i < PFA_NPROCESSES; i++)
	{
		PfaProcessSnapshot process;

		if (!pfa_metrics_process(i, &process))
			continue;
		add_label(&row, process_names[i]);
		row.nulls[row.n] = i == PFA_PROCESS_SYNC;
		add_count(&row, process.pid != 0);
		add_count(&row, process.restarts);
		end_row(&row);
	}
	return (Datum) 0;
}

Datum
pfa_metrics_mv(PG_FUNCTION_ARGS)
{
	PfaDatabaseBlock *block = pfa_metrics_block();
	TimestampTz now = GetCurrentTimestamp();
	Row row;

	begin_rows(&row, fcinfo);
	for (int i = 0; block != NULL && i < PFA_NVIEWS; i++)
	{
		TimestampTz at = pg_atomic_read_u64(&block->view_refreshed_at[i]);

		if (at == 0)
			continue;
		add_label(&row, view_names[i]);
		add_float(&row, Max(now - at, 0) / 1e6);
		end_row(&row);
	}
	return (Datum) 0;
}

Datum
pfa_metrics_events(PG_FUNCTION_ARGS)
{
	static const char *const level_names[PFA_NLEVELS] = {"debug", "info",
														 "warning", "error"};
	PfaDatabaseBlock *block = pfa_metrics_block();
	Row row;

	begin_rows(&row, fcinfo);
	for (int i = 0; block != NULL && i < PFA_NLEVELS; i++)
	{
		add_label(&row, level_names[i]);
		add_count(&row, pg_atomic_read_u64(&block->events[i]));
		end_row(&row);
	}
	return (Datum) 0;
}

Datum
pfa_metrics_server(PG_FUNCTION_ARGS)
{
	PfaDatabaseBlock *block = pfa_metrics_block();
	Row row;

	begin_rows(&row, fcinfo);
	if (block == NULL)
		return (Datum) 0;
	add_label(&row, PFA_VERSION);
	add_float(&row, unix_time(pfa_metrics.shared->started_at));
	add_float(&row, unix_time(pg_atomic_read_u64(&block->facts_at)));
	add_count(&row, pfa_metrics_organizations_used());
	add_count(&row, pfa_metrics.shared->max_organizations);
	add_count(&row, pg_atomic_read_u64(&block->events_dropped));
	end_row(&row);
	return (Datum) 0;
}
