/*
 * executor.c
 *	  Count statements that touch a table of ours, and how long they take.
 *
 * Time is taken in ExecutorRun and ExecutorFinish, so what a client thinks
 * between fetches is not part of a statement.  A statement within a counted
 * one (a trigger's, a function's) is part of it; one within a statement that
 * touches no table of ours counts for itself, so what our functions run by SPI
 * is seen.  EXPLAIN without ANALYZE is not counted, nor a statement that
 * fails, nor what our own workers run.
 *
 * A foreign statement costs a look at its relations when it starts: whether
 * the OID is within the span of ours, which the scheduler has put into shared
 * memory.  Nothing is looked up in a catalog.  Where no scheduler works, on a
 * standby or without the extension, nothing is ours.
 *
 * The executor's own timer, QueryDesc.totaltime, is left alone: an extension
 * that finds it allocated, as pg_stat_statements does, relies on whoever
 * allocated it for counts that we do not want to pay for.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/transam.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "postmaster/bgworker.h"

#include "compat.h"
#include "events/ring.h"
#include "guc.h"
#include "metrics/metrics_private.h"

static ExecutorStart_hook_type previous_start;
static ExecutorRun_hook_type previous_run;
static ExecutorFinish_hook_type previous_finish;
static ExecutorEnd_hook_type previous_end;

/* A counted statement that has been started; lives in its es_query_cxt. */
typedef struct OpenStatement
{
	struct OpenStatement *next;
	const QueryDesc *query;
	int relation; /* the first of ours that it touches */
	instr_time spent;
	MemoryContextCallback callback;
} OpenStatement;

static struct
{
	OpenStatement *open; /* the newest first; rarely more than one */
	int depth;           /* counted statements that are being run */
	PfaStatementShard *shard;
	bool excluded; /* a worker of ours, or no shared memory */
	bool looked;
} mine;

/* ---- what is ours ---- */

/* Index of the first of our tables that the statement touches, -1: none. */
static int
first_relation(const PlannedStmt *statement)
{
	PfaDatabaseBlock *block = pfa_metrics.mine;
	uint32 noids = pg_atomic_read_u32(&block->noids);
	ListCell *cell;

	if (noids == 0)
		return -1;
	pg_read_barrier();
	foreach(cell, statement->rtable)
	{
		const RangeTblEntry *entry = lfirst(cell);

		/* They are in order: the first and the last span them all. */
		if (entry->rtekind != RTE_RELATION ||
			entry->relid < pg_atomic_read_u32(&block->oids[0]) ||
			entry->relid > pg_atomic_read_u32(&block->oids[noids - 1]))
			continue;
		for (uint32 i = 0; i < noids; i++)
		{
			if (pg_atomic_read_u32(&block->oids[i]) == entry->relid)
				return (int) i;
		}
	}
	return -1;
}

static void
look_at_process(void)
{
	PfaDatabaseBlock *block = pfa_metrics_block();
	int backend = pfa_metrics_backend();

	mine.looked = true;
	mine.excluded = block == NULL || backend < 0 || IsParallelWorker() ||
		(MyBgworkerEntry != NULL &&
		 strcmp(MyBgworkerEntry->bgw_library_name, "pfa_vanguard") == 0);
	if (!mine.excluded)
		mine.shard = &block->statements[backend % PFA_STATEMENT_SHARDS];
}

/* ---- statements under way ---- */

/* An error ends statements without ExecutorEnd, but not without this. */
static void
forget_statement(void *arg)
{
	OpenStatement **link = &mine.open;

	while (*link != NULL && *link != arg)
		link = &(*link)->next;
	if (*link != NULL)
		*link = (*link)->next;
}

static pg_noinline OpenStatement *
find_statement(const QueryDesc *query)
{
	OpenStatement *statement = mine.open;

	while (statement != NULL && statement->query != query)
		statement = statement->next;
	return statement;
}

static void
executor_start(QueryDesc *query, int eflags)
{
	OpenStatement *statement;
	int relation;

	if (previous_start)
		previous_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);

	if (!pfa_guc_track_statements || mine.depth > 0 ||
		(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		return;
	if (!mine.looked)
		look_at_process();
	if (mine.excluded)
		return;
	relation = first_relation(query->plannedstmt);
	if (relation < 0)
		return;

	statement = MemoryContextAllocZero(query->estate->es_query_cxt,
									   sizeof(OpenStatement));
	statement->query = query;
	statement->relation = relation;
	statement->next = mine.open;
	statement->callback.func = forget_statement;
	statement->callback.arg = statement;
	MemoryContextRegisterResetCallback(query->estate->es_query_cxt,
									   &statement->callback);
	mine.open = statement;
}

static void
run_next(QueryDesc *query, ScanDirection direction, uint64 count,
		 bool execute_once)
{
	if (previous_run)
		pfa_call_executor_run(previous_run, query, direction, count,
							  execute_once);
	else
		pfa_call_executor_run(standard_ExecutorRun, query, direction, count,
							  execute_once);
}

static void
executor_run(PFA_EXECUTOR_RUN_ARGS)
{
	OpenStatement *statement = find_statement(queryDesc);
	instr_time start;
	instr_time end;

	if (statement == NULL)
	{
		run_next(queryDesc, direction, count, PFA_EXECUTE_ONCE);
		return;
	}
	mine.depth++;
	INSTR_TIME_SET_CURRENT(start);
	PG_TRY();
	{
		run_next(queryDesc, direction, count, PFA_EXECUTE_ONCE);
	}
	PG_FINALLY();
	{
		mine.depth--;
	}
	PG_END_TRY();
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_ACCUM_DIFF(statement->spent, end, start);
}

static void
finish_next(QueryDesc *query)
{
	if (previous_finish)
		previous_finish(query);
	else
		standard_ExecutorFinish(query);
}

static void
executor_finish(QueryDesc *query)
{
	OpenStatement *statement = query->operation == CMD_SELECT ?
		NULL :
		find_statement(query);
	instr_time start;
	instr_time end;

	/* Nothing is left to do for a query, so that need not be timed. */
	if (statement == NULL)
	{
		finish_next(query);
		return;
	}
	mine.depth++;
	INSTR_TIME_SET_CURRENT(start);
	PG_TRY();
	{
		finish_next(query);
	}
	PG_FINALLY();
	{
		mine.depth--;
	}
	PG_END_TRY();
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_ACCUM_DIFF(statement->spent, end, start);
}

/* ---- its end ---- */

/* No text of the statement: it may hold what only its user may see. */
static void
report_slow(const OpenStatement *statement, uint64 nsecs)
{
	PfaRelationEntry *entry = &pfa_metrics.mine->relations[statement->relation];
	char context[160];

	pg_atomic_fetch_add_u64(&mine.shard->s.slow, 1);
	pg_atomic_fetch_add_u64(&entry->slow, 1);
	pg_atomic_fetch_add_u64(&entry->slow_ns, nsecs);
	snprintf(context, sizeof(context),
			 "{\"relation\": \"%s\", \"query_id\": %lld, \"seconds\": %.3f}",
			 NameStr(entry->name),
			 (long long) statement->query->plannedstmt->queryId, nsecs / 1e9);
	pfa_event_post(
		PFA_LEVEL_WARNING, "statements", NULL, 0, "slow_statement",
		psprintf(
			"a statement on %s took longer than pfa_vanguard.slow_query_threshold",
			NameStr(entry->name)),
		context);
}

static void
executor_end(QueryDesc *query)
{
	OpenStatement *statement = find_statement(query);

	if (statement != NULL)
	{
		uint64 nsecs = (uint64) (INSTR_TIME_GET_DOUBLE(statement->spent) * 1e9);

		pfa_histogram_observe(&mine.shard->s.duration, &pfa_histogram_statement,
							  nsecs);
		if (pfa_guc_slow_query_threshold >= 0 &&
			nsecs > pfa_guc_slow_query_threshold * UINT64CONST(1000000))
			report_slow(statement, nsecs);
		forget_statement(statement);
	}
	if (previous_end)
		previous_end(query);
	else
		standard_ExecutorEnd(query);
}

void
pfa_metrics_executor_install(void)
{
	previous_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	previous_run = ExecutorRun_hook;
	ExecutorRun_hook = executor_run;
	previous_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = executor_finish;
	previous_end = ExecutorEnd_hook;
	ExecutorEnd_hook = executor_end;
}
