/*
 * run.c
 *	  One sync of one organization, from the claimed run to its last word.
 *
 * A run is: look at organization, source and mapping; read the first page,
 * which tells how many there are; read the others; prove that none is missing;
 * remove what has vanished; write the end into pfa_sync_run.  Every step has
 * transactions of its own and none is open while PEMS is waited for, so the
 * process may die at any line: what a run has read stands in pfa_sync_page
 * beside the rows, and the run is taken up again from there.
 *
 * Lock order within a transaction: the extension (shared), then pfa_mirror
 * rows by pfa_id.
 */
#include "postgres.h"

#include <ctype.h>

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "activity.h"
#include "catalog/mv_change.h"
#include "catalog/schedule.h"
#include "guc.h"
#include "metrics/counters.h"
#include "sync/retry.h"
#include "sync/run_state.h"

/* A run that was requested longer ago starts its listing anew. */
#define RESUME_SECONDS 3600

/* Attempts at one transaction; a lock may be waited for a few minutes. */
#define MAX_TRIES 100

/* Longest wait for a lock. */
#define LOCK_TIMEOUT "2s"

/* A full run is due when the last one is older. */
#define FULL_INTERVAL_USECS USECS_PER_DAY

/* Records may be committed in PEMS this long after they were stamped. */
#define DELTA_MARGIN_SECONDS 300

/* A second worker pays when so many pages are left. */
#define HELPER_MIN_PAGES 4

/* ---- transactions ---- */

static bool
passes_by_itself(int sqlstate)
{
	return sqlstate == ERRCODE_UNIQUE_VIOLATION ||
		sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED ||
		sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
}

/*
 * Commits never wait for a standby: what a sync writes can be had again, and a
 * process that waits for a standby that is not there holds its locks and
 * cannot be cancelled.
 */
static void
begin_transaction(PfaRunState *state, bool relaxed)
{
	Oid extension;

	pfa_activity_begin();
	StartTransactionCommand();
	/* Whatever default the session or the database has set. */
	XactIsoLevel = XACT_READ_COMMITTED;
	(void) set_config_option("synchronous_commit", relaxed ? "off" : "local",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true,
							 0, false);

	/*
	 * Whoever waits for a lock has others wait behind him: let them pass and
	 * try again.
	 */
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);

	/*
	 * Looked at anew in each transaction, so that DROP EXTENSION never waits
	 * for more than a batch.  A worker whose extension has gone leaves quietly,
	 * also where it was created anew: the run in hand was another's then, even
	 * if there is one of its number again.
	 */
	extension = pfa_extension_oid(true);
	if (OidIsValid(extension) && extension == state->extension)
		return;
	if (MyBgworkerEntry != NULL)
		proc_exit(0);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("extension \"pfa_vanguard\" has been dropped")));
}

static void
end_transaction(void)
{
	CommitTransactionCommand();
	pfa_activity_end();
}

void
pfa_run_transaction(PfaRunState *state, bool relaxed,
					void (*body)(PfaRunState *state, void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;

	for (volatile int tries = 1;; tries++)
	{
		volatile bool done = false;
		ErrorData *volatile edata = NULL;

		PG_TRY();
		{
			begin_transaction(state, relaxed);
			/* What the body returns outlives the transaction. */
			MemoryContextSwitchTo(caller);
			body(state, arg);
			end_transaction();
			done = true;
		}
		PG_CATCH();
		{
			MemoryContextSwitchTo(caller);
			edata = CopyErrorData();
			if (!passes_by_itself(edata->sqlerrcode) || tries >= MAX_TRIES)
				PG_RE_THROW();
			FlushErrorState();
			AbortCurrentTransaction();
			pfa_activity_end();
		}
		PG_END_TRY();

		MemoryContextSwitchTo(caller);
		if (done)
			return;
		FreeErrorData(edata);
		pfa_run_check_stop(state);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 pfa_retry_delay_ms(Min(tries, 2), -1),
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
pfa_run_check_stop(PfaRunState *state)
{
	CHECK_FOR_INTERRUPTS();

	/*
	 * In the foreground too, where settings are otherwise read between
	 * statements: the switch must act on a sync that runs.  No transaction is
	 * open here.
	 */
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	if (state->recording)
		return;
	if (!pfa_guc_enabled)
	{
		state->stopped = true;
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("setting \"pfa_vanguard.enabled\" was switched off")));
	}
	if (pg_atomic_read_u32(&state->slot->cancel) ||
		(!state->leader &&
		 (state->slot->stop || state->slot->run_id != state->run_id)))
	{
		state->stopped = true;
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("sync was cancelled")));
	}
}

/* ---- what is to be done ---- */

/* Stamps such as 2025-03-15T08:30:00 can be moved back; others cannot. */
static bool
is_iso_stamp(const char *text)
{
	static const char pattern[] = "dddd-dd-ddTdd:dd:dd";

	for (int i = 0; pattern[i] != '\0'; i++)
	{
		if (pattern[i] == 'd'     ? !isdigit((unsigned char) text[i]) :
				pattern[i] == 'T' ? text[i] != 'T' && text[i] != ' ' :
									text[i] != pattern[i])
			return false;
	}
	return true;
}

/*
 * The stamp a delta asks from: the newest seen, less the time the run took
 * (a record changed behind the reader's back is older than the newest one it
 * saw later) and a margin.  NULL where stamps are of another form: then there
 * is no delta.
 */
static char *
move_watermark(const char *newest, int64 seconds)
{
	struct pg_tm tm;
	Timestamp stamp;
	fsec_t fsec;
	char *text;

	if (newest == NULL || strlen(newest) < 19 || !is_iso_stamp(newest))
		return NULL;
	memset(&tm, 0, sizeof(tm));
	if (sscanf(newest, "%4d-%2d-%2d%*c%2d:%2d:%2d", &tm.tm_year, &tm.tm_mon,
			   &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec) != 6 ||
		tm2timestamp(&tm, 0, NULL, &stamp) != 0)
		return NULL;
	stamp -= seconds * USECS_PER_SEC;
	if (timestamp2tm(stamp, NULL, &tm, &fsec, NULL, NULL) != 0)
		return NULL;
	text = psprintf("%04d-%02d-%02d%c%02d:%02d:%02d", tm.tm_year, tm.tm_mon,
					tm.tm_mday, newest[10], tm.tm_hour, tm.tm_min, tm.tm_sec);
	return text;
}

static bool
wants_delta(const PfaRunState *state, const char *mode)
{
	const PfaOrganization *organization = state->organization;

	if (strcmp(mode, "full") == 0 || strcmp(mode, "force") == 0)
		return false;
	return state->source->supports_delta && organization->watermark != NULL &&
		organization->mapping_hash == state->mapping_hash &&
		organization->last_full_at != 0 &&
		organization->last_full_at >
		GetCurrentTimestamp() - FULL_INTERVAL_USECS;
}

/* Organization, source, mapping: everything the run needs from tables. */
static void
load(PfaRunState *state, void *arg)
{
	PfaRun *run = arg;
	MemoryContext caller = MemoryContextSwitchTo(state->ctx);
	PfaOrganization *organization;

	organization = pfa_organization_get(state->slot->organization_id);
	if (organization == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("organization \"%s\" does not exist",
						state->slot->organization_id)));
	if (!OidIsValid(organization->server_oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" of organization \"%s\" does not exist",
						organization->server_name,
						organization->organization_id)));
	if (!OidIsValid(organization->owner))
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("the role that added organization \"%s\" does not exist",
					organization->organization_id),
			 errhint(
				 "Remove the organization and add it as a role that has a user mapping for the server.")));
	state->organization = organization;
	state->source = pfa_source_load(organization->server_oid,
									organization->owner);
	state->mapping = pfa_mapping_load(state->ctx, organization->organization_id,
									  &state->mapping_hash);
	state->slot->extension = state->extension;
	state->slot->server_oid = organization->server_oid;
	state->keyset = state->source->pagination == PFA_PAGINATION_KEYSET;

	if (run != NULL)
	{
		bool delta = wants_delta(state, run->mode);

		state->full = !delta;
		state->force = strcmp(run->mode, "force") == 0;
		if (delta)
			state->modified_since = organization->watermark;
		if (!state->force)
			pfa_run_set_mode(run->run_id, delta ? "delta" : "full");
	}
	MemoryContextSwitchTo(caller);
}

/* What earlier attempts at this run have read already. */
static void
load_pages(PfaRunState *state, void *arg)
{
	PfaRun *run = arg;
	PfaPageRow *pages;
	int npages;

	if (run != NULL &&
		(run->attempt == 1 || !state->full ||
		 run->requested_at <
			 GetCurrentTimestamp() - RESUME_SECONDS * USECS_PER_SEC))
	{
		pfa_page_forget(run->run_id);
		return;
	}
	/* Part of a page that was not read to its end proves nothing. */
	if (run != NULL)
		pfa_vanished_forget_unread(state->run_id);
	pages = pfa_page_list(state->run_id, &npages);
	for (int i = 0; i < npages; i++)
	{
		pfa_coverage_add(state->coverage, pages[i].page_no, pages[i].lower_id,
						 pages[i].upper_id, pages[i].upper_is_ours);
		if (run != NULL)
			pg_atomic_fetch_add_u64(&state->slot->rows_seen,
									Max(pages[i].counts.rows_seen, 0));
	}
}

static void
connect_source(PfaRunState *state)
{
	MemoryContext caller = MemoryContextSwitchTo(state->ctx);

	state->apply = pfa_apply_create(state->ctx,
									state->organization->organization_id,
									state->mapping);
	state->client =
		pfa_grid_client_create(state->ctx, state->source, state->mapping,
							   state->organization->pems_organization);
	pfa_source_wipe(state->source);
	MemoryContextSwitchTo(caller);
}

static PfaRunState *
create_state(PfaSlot *slot, int64 run_id, Oid extension, bool leader)
{
	MemoryContext ctx;
	PfaRunState *state;

	/*
	 * The caller's context outlives the run's transactions, and takes what is
	 * left of the run with it if an error of the record-keeping ends that.
	 */
	ctx = AllocSetContextCreate(CurrentMemoryContext, "pfa_vanguard run",
								ALLOCSET_DEFAULT_SIZES);
	state = MemoryContextAllocZero(ctx, sizeof(PfaRunState));
	state->ctx = ctx;
	state->slot = slot;
	state->run_id = run_id;
	state->extension = extension;
	state->leader = leader;
	state->total = -1;
	state->end_page = -1;
	return state;
}

/* ---- the second worker ---- */

static int
busy_workers(void)
{
	int n = 0;

	for (int i = 0; i < PFA_MAX_SLOTS; i++)
	{
		PfaSlot *slot = pfa_slot_by_index(i);

		if (pg_atomic_read_u32(&slot->in_use))
			n += slot->helper_pid != 0 ? 2 : 1;
	}
	return n;
}

/* Share the pages that are left, with a helper where one may and should run. */
static void
share_pages(PfaRunState *state, bool with_helper)
{
	PfaSlot *slot = state->slot;
	int64 last = state->total < 0 ?
		INT64_MAX - 1 :
		(state->total - state->page_rows + state->page_step - 1) /
			state->page_step;

	SpinLockAcquire(&slot->mutex);
	slot->page_rows = state->page_rows;
	slot->page_step = state->page_step;
	slot->next_low = 1;
	slot->next_high = state->keyset ? 1 : Max(last, 0) + 1;
	slot->stop = false;
	SpinLockRelease(&slot->mutex);

	if (with_helper && state->full && !state->keyset && state->total >= 0 &&
		last >= HELPER_MIN_PAGES && pfa_registry_available() &&
		pfa_helper_start != NULL &&
		busy_workers() < pfa_guc_max_concurrent_syncs)
		(void) pfa_helper_start(slot);
}

static void
dismiss_helper(PfaRunState *state, bool stop)
{
	PfaSlot *slot = state->slot;

	SpinLockAcquire(&slot->mutex);
	slot->next_high = slot->next_low;
	slot->stop = stop;
	SpinLockRelease(&slot->mutex);
}

/* Wait for the helper to end its pages; one that died counts as ended. */
static void
await_helper(PfaRunState *state)
{
	PfaSlot *slot = state->slot;

	while (slot->helper_pid != 0 && BackendPidGetProc(slot->helper_pid) != NULL)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 500,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		pfa_run_check_stop(state);
		if (state->progress != NULL)
			state->progress(slot, state->progress_arg);
	}
}

/* Calls and retries that led to no page, which counted its own. */
static void
count_rest(const PfaRunState *state)
{
	PfaSyncProgress progress = {0};

	if (state->organization == NULL)
		return;
	progress.api_calls = state->unsaved.api_calls;
	if (state->client != NULL)
		progress.api_calls += pfa_grid_client_calls(state->client) -
			state->calls_saved;
	progress.retries = state->unsaved.retries;
	pfa_metrics_sync_progress(state->organization->organization_id, &progress);
}

void
pfa_run_help(PfaSlot *slot, int64 run_id)
{
	PfaRunState *state = create_state(slot, run_id, slot->extension, false);

	state->full = true;
	PG_TRY();
	{
		pfa_run_transaction(state, true, load, NULL);
		state->coverage = pfa_coverage_create(state->ctx, state->keyset);
		pfa_run_transaction(state, true, load_pages, NULL);
		connect_source(state);
		state->page_rows = slot->page_rows;
		state->page_step = slot->page_step;
		pfa_pages_read(state);
	}
	PG_CATCH();
	{
		/* A run that ended without us is no error. */
		if (!state->stopped && !slot->stop && slot->run_id == run_id &&
			pg_atomic_read_u32(&slot->cancel) == 0)
			PG_RE_THROW();
		MemoryContextSwitchTo(TopMemoryContext);
		FlushErrorState();
		AbortOutOfAnyTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(TopMemoryContext);
	count_rest(state);
	MemoryContextDelete(state->ctx);
}

/* ---- the end of a run ---- */

typedef struct Ending
{
	PfaScheduleOutcome outcome;
	const char *error; /* or NULL */
	PfaRunCounts counts;
	int64 deleted;
	int64 run_usecs;
} Ending;

static void
sum_counts(PfaRunState *state, PfaRunCounts *sum)
{
	PfaPageRow *pages;
	int npages;

	*sum = state->unsaved;
	if (state->client != NULL)
	{
		sum->api_calls += pfa_grid_client_calls(state->client) -
			state->calls_saved;
		sum->bytes_received += pfa_grid_client_bytes(state->client) -
			state->bytes_saved;
	}
	pages = pfa_page_list(state->run_id, &npages);
	for (int i = 0; i < npages; i++)
	{
		const PfaRunCounts *counts = &pages[i].counts;

		sum->rows_seen += counts->rows_seen;
		sum->rows_inserted += counts->rows_inserted;
		sum->rows_updated += counts->rows_updated;
		sum->rows_rejected += counts->rows_rejected;
		sum->rows_vanished += counts->rows_vanished;
		sum->bytes_received += counts->bytes_received;
		sum->api_calls += counts->api_calls;
		sum->retries += counts->retries;
	}
	sum->rows_unchanged = Max(sum->rows_seen - sum->rows_inserted -
								  sum->rows_updated - sum->rows_rejected,
							  0);
}

static void
count_rows(PfaRunState *state, void *arg)
{
	sum_counts(state, arg);
}

/* The field list as one text, to be compared with the next run's. */
static char *
layout_text(PfaRunState *state, bool *complete)
{
	const PfaGridLayout *layout = pfa_grid_client_fields(state->client,
														 complete);
	StringInfoData text;

	if (pfa_grid_layout_size(layout) == 0)
		return NULL;
	initStringInfo(&text);
	for (int i = 0; i < pfa_grid_layout_size(layout); i++)
		appendStringInfo(&text, "%s%s", i > 0 ? "," : "",
						 pfa_grid_layout_name(layout, i));
	return text.data;
}

/* Entries of a that b has not, comma separated; NULL where there are none. */
static char *
entries_missing(const char *a, const char *b)
{
	StringInfoData missing;
	char *copy = pstrdup(a);
	char *padded = psprintf(",%s,", b);
	char *next;

	initStringInfo(&missing);
	for (char *entry = copy; entry != NULL; entry = next)
	{
		next = strchr(entry, ',');
		if (next != NULL)
			*next++ = '\0';
		if (strstr(padded, psprintf(",%s,", entry)) == NULL)
			appendStringInfo(&missing, "%s%s", missing.len > 0 ? ", " : "",
							 entry);
	}
	return missing.len > 0 ? missing.data : NULL;
}

/*
 * Tell once a change that PEMS delivers other fields than last time.  Returns
 * the list to compare with next time; where this run's is not complete, the
 * fields that it has not seen stay in it.
 */
static const char *
report_drift(PfaRunState *state)
{
	const char *before = state->organization->layout;
	bool complete;
	char *layout = layout_text(state, &complete);
	char *added;
	char *removed;

	if (layout == NULL || before == NULL)
		return layout == NULL ? before : layout;
	added = entries_missing(layout, before);
	removed = entries_missing(before, layout);
	if (!complete && removed != NULL)
	{
		layout = psprintf("%s%s%s", before, added != NULL ? "," : "",
						  added != NULL ? added : "");
		removed = NULL;
	}
	if (added == NULL && removed == NULL)
		return layout;
	pfa_event_write(
		WARNING, "sync", state->organization->organization_id, state->run_id,
		"schema_drift",
		psprintf("PEMS delivers other fields than before: new %s; gone %s",
				 added ? added : "none", removed ? removed : "none"),
		NULL);
	return layout;
}

static void
finish_completed(PfaRunState *state, void *arg)
{
	Ending *ending = arg;
	const char *organization_id = state->organization->organization_id;
	const char *layout;
	char *watermark;
	int64 seconds = ending->run_usecs / USECS_PER_SEC;

	/*
	 * The watermark moves in the transaction that ends the run: had it moved
	 * with the pages, a run that dies later would be taken for a whole one.
	 */
	watermark = move_watermark(state->slot->max_version,
							   seconds + DELTA_MARGIN_SECONDS);
	if (watermark == NULL ||
		(!state->full && state->organization->watermark != NULL &&
		 strcmp(watermark, state->organization->watermark) < 0))
		watermark = state->organization->watermark;

	layout = report_drift(state);
	ending->counts.rows_deleted = ending->deleted;
	pfa_run_finish(state->run_id, "completed", &ending->counts,
				   state->total < 0 ? ending->counts.rows_seen :
									  Max(state->total - state->foreign,
										  ending->counts.rows_seen),
				   NULL);
	pfa_state_update(organization_id, watermark, state->mapping_hash, layout,
					 state->full);
	if (state->full)
		pfa_reject_forget(organization_id, state->run_id);
	pfa_schedule_finished(organization_id, PFA_OUTCOME_COMPLETED, NULL);
	if (ending->counts.rows_inserted + ending->counts.rows_updated +
			ending->counts.rows_deleted >
		0)
		pfa_mv_request_refresh();
	pfa_page_forget(state->run_id);
}

static void
finish_otherwise(PfaRunState *state, void *arg)
{
	Ending *ending = arg;
	const char *organization_id = state->slot->organization_id;

	sum_counts(state, &ending->counts);
	pfa_run_finish(state->run_id,
				   ending->outcome == PFA_OUTCOME_CANCELLED ? "cancelled" :
															  "failed",
				   &ending->counts, Max(state->total, 0), ending->error);
	pfa_schedule_finished(organization_id, ending->outcome, ending->error);
	if (ending->outcome != PFA_OUTCOME_CANCELLED)
		pfa_event_write(ERROR, "sync", organization_id, state->run_id,
						ending->outcome == PFA_OUTCOME_DENIED ? "sync_denied" :
																"sync_failed",
						ending->error, NULL);
	pfa_page_forget(state->run_id);
}

/* Once the run's end is committed. */
static void
count_run(PfaRunState *state, const PfaRun *run, const Ending *ending,
		  PfaErrorKind kind)
{
	PfaSyncMode mode = PFA_MODE_FULL;

	if (state->force || strcmp(run->mode, "force") == 0)
		mode = PFA_MODE_FORCE;
	else if (state->organization != NULL ? !state->full :
										   strcmp(run->mode, "delta") == 0)
		mode = PFA_MODE_DELTA;
	pfa_metrics_sync_finished(run->organization_id, mode,
							  ending->outcome == PFA_OUTCOME_COMPLETED ?
								  PFA_SYNC_SUCCESS :
								  ending->outcome == PFA_OUTCOME_CANCELLED ?
								  PFA_SYNC_CANCELLED :
								  PFA_SYNC_FAILED,
							  kind, GetCurrentTimestamp() - run->started_at,
							  ending->counts.rows_seen);
}

/* The run itself, up to its completion. */
static void
perform(PfaRunState *state, PfaRun *run, bool with_helper)
{
	Ending ending = {0};

	pfa_run_transaction(state, false, load, run);
	state->coverage = pfa_coverage_create(state->ctx, state->keyset);
	pfa_run_transaction(state, false, load_pages, run);
	connect_source(state);

	pfa_pages_first(state);
	share_pages(state, with_helper);
	pfa_pages_read(state);
	dismiss_helper(state, false);
	await_helper(state);

	/* The helper's pages, and nothing that it only claimed. */
	state->coverage = pfa_coverage_create(state->ctx, state->keyset);
	pfa_run_transaction(state, true, load_pages, NULL);
	pfa_pages_complete(state);

	pfa_run_transaction(state, true, count_rows, &ending.counts);
	if (state->full)
		ending.deleted = pfa_sweep(state,
								   ending.counts.rows_seen -
									   ending.counts.rows_rejected);
	pg_atomic_write_u32(&state->slot->phase, PFA_PHASE_FINISHING);
	ending.run_usecs = GetCurrentTimestamp() - run->requested_at;
	pfa_run_transaction(state, false, finish_completed, &ending);
	pfa_database_clear_disk_full();
	count_run(state, run, &ending, 0);
}

/*
 * Record why a run ended early.  The error is described by its message and
 * detail; neither holds a secret.
 */
static void
record_failure(PfaRunState *state, const PfaRun *run, const ErrorData *edata)
{
	Ending ending = {0};

	/* First: there may be no room for the record either. */
	if (edata->sqlerrcode == ERRCODE_DISK_FULL)
		pfa_database_note_disk_full();
	ending.outcome = edata->sqlerrcode == ERRCODE_QUERY_CANCELED ?
		PFA_OUTCOME_CANCELLED :
		edata->sqlerrcode == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION ?
		PFA_OUTCOME_DENIED :
		PFA_OUTCOME_FAILED;
	ending.error = edata->detail == NULL ?
		edata->message :
		psprintf("%s (%s)", edata->message, edata->detail);
	pfa_run_transaction(state, false, finish_otherwise, &ending);
	count_run(state, run, &ending, pfa_metrics_error_kind(edata->sqlerrcode));
}

/*
 * Switched off is not cancelled: the run goes back to the queue, to be taken
 * up again where it stands.  In the foreground nobody would do that.
 */
static bool
is_put_off(const PfaRunState *state)
{
	return MyBgworkerEntry != NULL && state->stopped && !pfa_guc_enabled &&
		pg_atomic_read_u32(&state->slot->cancel) == 0;
}

static void
put_off(PfaRunState *state, void *arg)
{
	pfa_run_requeue(state->run_id);
}

/* Raise in the caller's statement what interrupted its run. */
static void
end_by_interrupt(PfaRunState *state, const ErrorData *edata,
				 MemoryContext caller)
{
	char *message;

	MemoryContextSwitchTo(caller);
	message = pstrdup(edata->message);
	MemoryContextDelete(state->ctx);
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED), errmsg_internal("%s", message)));
}

bool
pfa_run_perform(PfaRun *run, PfaSlot *slot, bool with_helper,
				PfaRunProgress progress, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	PfaRunState *state = create_state(slot, run->run_id, run->extension, true);
	ErrorData *volatile edata = NULL;

	state->progress = progress;
	state->progress_arg = arg;
	MemoryContextSwitchTo(state->ctx);

	PG_TRY();
	{
		perform(state, run, with_helper);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(state->ctx);
		edata = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		pfa_activity_end();
	}
	PG_END_TRY();

	count_rest(state);
	if (edata != NULL)
	{
		MemoryContextSwitchTo(state->ctx);
		dismiss_helper(state, true);
		if (OidIsValid(MyDatabaseId) &&
			edata->sqlerrcode != ERRCODE_ADMIN_SHUTDOWN)
		{
			bool later = is_put_off(state);

			state->recording = true;
			if (later)
				pfa_run_transaction(state, false, put_off, NULL);
			else
				record_failure(state, run, edata);
		}

		/* A query cancel or a timeout ends the caller's statement as well. */
		if (MyBgworkerEntry == NULL && !state->stopped &&
			edata->sqlerrcode == ERRCODE_QUERY_CANCELED)
			end_by_interrupt(state, edata, caller);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(state->ctx);
	return edata == NULL;
}
