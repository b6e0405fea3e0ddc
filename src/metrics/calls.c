/*
 * calls.c
 *	  Count calls of the SQL API: see counters.h.
 *
 * What is in flight stands in a word of the calling backend, not in a counter:
 * a backend that is terminated in the middle of a call takes its word with it,
 * where a counter would stay one too high for ever.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "utils/elog.h"

#include "events/ring.h"
#include "metrics/metrics_private.h"

/* In the order of PfaEndpoint. */
const char *const pfa_endpoint_names[PFA_NENDPOINTS] =
	{"pfa_add_organization",
	 "pfa_remove_organization",
	 "pfa_pause_organization",
	 "pfa_resume_organization",
	 "pfa_test_source",
	 "pfa_sync_now",
	 "pfa_sync_wait",
	 "pfa_sync_cancel",
	 "pfa_sync",
	 "pfa_get",
	 "pfa_record",
	 "pfa_draft",
	 "pfa_commit",
	 "pfa_discard",
	 "pfa_resolve_conflict",
	 "pfa_permissions",
	 "pfa_organization_config",
	 "pfa_stats",
	 "pfa_kpi_stats",
	 "pfa_timeline_bounds",
	 "pfa_kpi_verify",
	 "pfa_refresh_mv",
	 "pfa_index_advice",
	 "pfa_explain",
	 "pfa_cache_get",
	 "pfa_cache_set",
	 "pfa_cache_invalidate",
	 "pfa_prewarm"};

static struct
{
	bool looked;
	int backend; /* -1: do not count */
	bool in_call;
	Size response; /* bytes, as told by the call */
	instr_time start;
} mine;

/* Whether the function returns one value of variable length. */
static bool
returns_varlena(PfaEndpoint endpoint)
{
	switch (endpoint)
	{
		case PFA_ENDPOINT_GET:
		case PFA_ENDPOINT_RECORD:
		case PFA_ENDPOINT_DRAFT:
		case PFA_ENDPOINT_COMMIT:
		case PFA_ENDPOINT_DISCARD:
		case PFA_ENDPOINT_PERMISSIONS:
		case PFA_ENDPOINT_ORGANIZATION_CONFIG:
		case PFA_ENDPOINT_STATS:
		case PFA_ENDPOINT_SYNC_WAIT:
		case PFA_ENDPOINT_CACHE_GET:
			return true;
		default:
			return false;
	}
}

static void
end_call(PfaEndpoint endpoint, bool failed)
{
	PfaEndpointCounters *counters = &pfa_metrics.mine->endpoints[endpoint];
	instr_time end;

	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, mine.start);
	pfa_histogram_observe(&counters->duration, &pfa_histogram_api,
						  (uint64) (INSTR_TIME_GET_DOUBLE(end) * 1e9));
	pg_atomic_fetch_add_u64(failed ? &counters->failed : &counters->succeeded,
							1);
	pg_atomic_write_u64(&pfa_metrics.backends[mine.backend], 0);
	mine.in_call = false;
}

/* The backend is terminated in the middle of a call. */
static void
leave_call(int code, Datum arg)
{
	uint64 word = pg_atomic_read_u64(&pfa_metrics.backends[mine.backend]);

	if (mine.in_call && (word & 0xffffffff) != 0)
		end_call((PfaEndpoint) ((word & 0xffffffff) - 1), true);
}

static bool
may_count(void)
{
	if (!mine.looked)
	{
		mine.looked = true;
		mine.backend = pfa_metrics_block() == NULL ? -1 : pfa_metrics_backend();
		if (mine.backend >= 0)
			on_shmem_exit(leave_call, (Datum) 0);
	}
	return mine.backend >= 0 && !mine.in_call;
}

/*
 * The transaction is about to be rolled back, and all that it wrote; the ring
 * is not.  The message is what the user saw.
 */
static void
report_error(PfaEndpoint endpoint, MemoryContext caller)
{
	MemoryContext old;
	ErrorData *edata;
	char context[96];
	int sqlstate = geterrcode();

	/* There may be no memory for a copy of an error that says so. */
	if (sqlstate == ERRCODE_OUT_OF_MEMORY)
		return;
	old = MemoryContextSwitchTo(caller);
	edata = CopyErrorData();
	snprintf(context, sizeof(context),
			 "{\"endpoint\": \"%s\", \"sqlstate\": \"%s\"}",
			 pfa_endpoint_names[endpoint], unpack_sql_state(sqlstate));
	pfa_event_post(sqlstate == ERRCODE_QUERY_CANCELED ? PFA_LEVEL_WARNING :
														PFA_LEVEL_ERROR,
				   "api", NULL, 0, "call_failed", edata->message, context);
	FreeErrorData(edata);
	MemoryContextSwitchTo(old);
}

Datum
pfa_metrics_call(PfaEndpoint endpoint, PGFunction body, FunctionCallInfo fcinfo)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum result = (Datum) 0;

	if (!may_count())
		return body(fcinfo);

	mine.in_call = true;
	mine.response = 0;
	INSTR_TIME_SET_CURRENT(mine.start);
	pg_atomic_write_u64(&pfa_metrics.backends[mine.backend],
						((uint64) MyDatabaseId << 32) | (endpoint + 1));
	PG_TRY();
	{
		result = body(fcinfo);
	}
	PG_CATCH();
	{
		end_call(endpoint, true);
		report_error(endpoint, caller);
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (!fcinfo->isnull && returns_varlena(endpoint))
		mine.response = toast_raw_datum_size(result) - VARHDRSZ;
	if (mine.response > 0)
		pfa_histogram_observe(&pfa_metrics.mine->endpoints[endpoint].response,
							  &pfa_histogram_response, mine.response);
	end_call(endpoint, false);
	return result;
}

void
pfa_metrics_response_size(Size bytes)
{
	mine.response = bytes;
}
