/*
 * compat.h
 *	  Where the supported server versions (15 to 18) differ.  No other file
 *	  names PG_VERSION_NUM.
 */
#ifndef PFA_COMPAT_H
#define PFA_COMPAT_H

#include "postgres.h"

#include "catalog/pg_database.h"
#include "storage/latch.h"
#include "utils/acl.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "pfa_vanguard supports PostgreSQL 15 to 18"
#endif

#if PG_VERSION_NUM >= 160000
#define pfa_database_ownercheck(database, role) \
	object_ownercheck(DatabaseRelationId, (database), (role))
#define pfa_server_aclcheck(server, role, mode) \
	object_aclcheck(ForeignServerRelationId, (server), (role), (mode))
#else
#define pfa_database_ownercheck(database, role) \
	pg_database_ownercheck((database), (role))
#define pfa_server_aclcheck(server, role, mode) \
	pg_foreign_server_aclcheck((server), (role), (mode))
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

/*
 * Sets live in a memory context up to 16, with a resource owner from 17 on;
 * no owner means that the maker frees it.
 */
#if PG_VERSION_NUM >= 170000
#define pfa_create_wait_event_set(context, nevents) \
	CreateWaitEventSet(NULL, (nevents))
#else
#define pfa_create_wait_event_set(context, nevents) \
	CreateWaitEventSet((context), (nevents))
#endif

/*
 * Table and index access.  The callers include genam.h, tableam.h and
 * executor.h themselves.
 */
#if PG_VERSION_NUM >= 180000
#define pfa_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan((rel), (index), (snapshot), NULL, (nkeys), 0)
#else
#define pfa_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan((rel), (index), (snapshot), (nkeys), 0)
#endif

/* Descent to a leaf; the callers include access/nbtree.h themselves. */
#if PG_VERSION_NUM >= 170000
#define pfa_bt_search(index, rel, key, buffer, snapshot) \
	_bt_search((index), (rel), (key), (buffer), BT_READ)
#elif PG_VERSION_NUM >= 160000
#define pfa_bt_search(index, rel, key, buffer, snapshot) \
	_bt_search((index), (rel), (key), (buffer), BT_READ, (snapshot))
#else
#define pfa_bt_search(index, rel, key, buffer, snapshot) \
	_bt_search((index), (key), (buffer), BT_READ, (snapshot))
#endif

/* old_snapshot_threshold went with 17. */
#if PG_VERSION_NUM >= 170000
#define pfa_test_for_old_snapshot(snapshot, rel, page) ((void) (page))
#else
#define pfa_test_for_old_snapshot(snapshot, rel, page) \
	TestForOldSnapshot((snapshot), (rel), (page))
#endif

/* Number of the running transaction among those of this process. */
#if PG_VERSION_NUM >= 170000
#define pfa_local_transaction() (MyProc->vxid.lxid)
#else
#define pfa_local_transaction() (MyProc->lxid)
#endif

/* The server's own entry of a setting that exists. */
#if PG_VERSION_NUM >= 160000
#define pfa_find_setting(name) find_option((name), false, true, 0)
#else
#define pfa_find_setting(name) \
	pfa_search_setting(get_guc_variables(), GetNumConfigOptions(), (name))
#define PFA_SEARCH_SETTING
#endif

/* Which indexes an update has left out of date. */
#if PG_VERSION_NUM >= 160000
#define PfaUpdateIndexes                  TU_UpdateIndexes
#define pfa_update_needs_indexes(indexes) ((indexes) != TU_None)
#define pfa_update_summarizing(indexes)   ((indexes) == TU_Summarizing)
#define pfa_insert_index_entries(info, slot, estate, summarizing) \
	ExecInsertIndexTuples((info), (slot), (estate), false, false, NULL, NIL, \
						  (summarizing))
#else
#define PfaUpdateIndexes                  bool
#define pfa_update_needs_indexes(indexes) (indexes)
#define pfa_update_summarizing(indexes)   false
#define pfa_insert_index_entries(info, slot, estate, summarizing) \
	ExecInsertIndexTuples((info), (slot), (estate), false, false, NULL, NIL)
#endif

/* ExecutorRun has lost its last argument in 18. */
#if PG_VERSION_NUM >= 180000
#define PFA_EXECUTOR_RUN_ARGS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define PFA_EXECUTE_ONCE true
#define pfa_call_executor_run(run, query, direction, count, execute_once) \
	((void) (execute_once), (run) ((query), (direction), (count)))
#else
#define PFA_EXECUTOR_RUN_ARGS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count, \
		bool execute_once
#define PFA_EXECUTE_ONCE execute_once
#define pfa_call_executor_run(run, query, direction, count, execute_once) \
	(run)((query), (direction), (count), (execute_once))
#endif

/*
 * Entry i, from 1, of the local copy of backend states.  The callers include
 * utils/backend_status.h themselves.
 */
#if PG_VERSION_NUM >= 160000
#define pfa_local_backend(i) pgstat_get_local_beentry_by_index(i)
#else
#define pfa_local_backend(i) pgstat_fetch_stat_local_beentry(i)
#endif
#define pfa_backend_status(i) \
	(pfa_local_backend(i) == NULL ? NULL : &pfa_local_backend(i)->backendStatus)

#endif /* PFA_COMPAT_H */
