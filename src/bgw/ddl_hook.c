/*
 * ddl_hook.c
 *	  Workers step aside for commands that want a database for themselves, and
 *	  come soon after commands that give them something to do.
 *
 * DROP DATABASE, ALTER DATABASE RENAME and SET TABLESPACE, and CREATE DATABASE
 * with a template fail while anybody is connected to the database.  Before
 * such a command its workers are barred and asked to leave, and the command
 * begins when they have left; the bar stands until the command has ended,
 * however it ends.
 *
 * Only what the user may do is prepared for: others would just be able to
 * disturb.  The command itself says what is wrong.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "bgw/worker.h"
#include "catalog/cache_watch.h"
#include "catalog/extension.h"
#include "catalog/schedule.h"
#include "compat.h"

/* Workers have left within a second; after so long the command may try. */
#define LEAVE_MS       5000
#define LEAVE_SLICE_MS 10

static ProcessUtility_hook_type previous_hook;

/* ---- which database does the command want? ---- */

static Oid
owned_database(const char *name)
{
	Oid database = get_database_oid(name, true);

	if (!OidIsValid(database) || database == MyDatabaseId ||
		!pfa_database_ownercheck(database, GetUserId()))
		return InvalidOid;
	return database;
}

/*
 * What CREATE DATABASE copies from: its owner may, or who may CREATEDB if it is
 * a template.  It may be the session's own database.
 */
static Oid
template_database(const CreatedbStmt *stmt)
{
	const char *name = "template1";
	ListCell *cell;
	Oid database;
	HeapTuple tuple;
	bool allowed;

	foreach(cell, stmt->options)
	{
		DefElem *option = lfirst(cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			name = defGetString(option);
	}
	database = get_database_oid(name, true);
	if (!OidIsValid(database))
		return InvalidOid;
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	allowed = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate ?
		have_createdb_privilege() :
		pfa_database_ownercheck(database, GetUserId());
	ReleaseSysCache(tuple);
	return allowed ? database : InvalidOid;
}

static Oid
wanted_database(Node *parsetree)
{
	switch (nodeTag(parsetree))
	{
		case T_DropdbStmt:
			return owned_database(((DropdbStmt *) parsetree)->dbname);
		case T_RenameStmt:
			if (((RenameStmt *) parsetree)->renameType == OBJECT_DATABASE)
				return owned_database(((RenameStmt *) parsetree)->subname);
			return InvalidOid;
		case T_AlterDatabaseStmt:
		{
			AlterDatabaseStmt *stmt = (AlterDatabaseStmt *) parsetree;
			ListCell *cell;

			foreach(cell, stmt->options)
			{
				DefElem *option = lfirst(cell);

				if (strcmp(option->defname, "tablespace") == 0)
					return owned_database(stmt->dbname);
			}
			return InvalidOid;
		}
		case T_CreatedbStmt:
			return template_database((CreatedbStmt *) parsetree);
		default:
			return InvalidOid;
	}
}

/* Ask until all have left: one may have been starting at the first time. */
static void
empty_database(Oid database)
{
	TimestampTz started = GetCurrentTimestamp();

	while (
		pfa_database_dismiss(database) > 0 &&
		!TimestampDifferenceExceeds(started, GetCurrentTimestamp(), LEAVE_MS))
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LEAVE_SLICE_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* ---- what follows a command ---- */

static bool
is_ours(const char *extension)
{
	return strcmp(extension, "pfa_vanguard") == 0;
}

/*
 * A sync that failed for its server's options or credentials is worth another
 * try now.  Who may change them need not have rights on our tables.
 */
static void
server_changed(const char *server)
{
	PfaExtension extension;
	Oid role;
	int context;

	if (RecoveryInProgress() || !pfa_extension_read(&extension))
		return;
	GetUserIdAndSecContext(&role, &context);
	SetUserIdAndSecContext(extension.owner,
						   context | SECURITY_LOCAL_USERID_CHANGE);
	if (pfa_schedule_credentials_changed(server) > 0)
		pfa_wake_scheduler_at_commit();
	SetUserIdAndSecContext(role, context);
}

/* The extension may have come with this command: have the launcher look. */
static void
look_if_present(void)
{
	PfaExtension extension;

	if (!RecoveryInProgress() && pfa_extension_read(&extension))
		pfa_request_look_at_commit();
}

/* Tables of ours may have lost a trigger that the cache relies on, or got it. */
static void
table_altered(const RangeVar *table)
{
	if (table != NULL)
		pfa_cache_table_altered(RangeVarGetRelid(table, NoLock, true));
}

static void
triggers_dropped(const DropStmt *stmt)
{
	ListCell *cell;

	foreach(cell, stmt->objects)
	{
		List *names = list_copy(lfirst(cell));

		/* the trigger's own name is the last */
		names = list_truncate(names, list_length(names) - 1);
		table_altered(makeRangeVarFromNameList(names));
	}
}

static void
follow_up(Node *parsetree)
{
	switch (nodeTag(parsetree))
	{
		case T_CreateExtensionStmt:
			/* Of another extension that requires ours, perhaps. */
			look_if_present();
			break;
		case T_TransactionStmt:
			/* The commit of the session that prepared it told nobody. */
			if (((TransactionStmt *) parsetree)->kind ==
				TRANS_STMT_COMMIT_PREPARED)
				look_if_present();
			break;
		case T_CreatedbStmt:
		case T_AlterDatabaseStmt:
			/* A template may have had it; or a database was opened, or closed. */
			pfa_wake_launcher_at_commit();
			break;
		case T_AlterExtensionStmt:
			if (is_ours(((AlterExtensionStmt *) parsetree)->extname))
				pfa_dismiss_workers_at_commit();
			break;
		case T_DropStmt:
			/* Ours may go with its schema, or with what it depends on. */
			if (((DropStmt *) parsetree)->removeType == OBJECT_EXTENSION ||
				((DropStmt *) parsetree)->behavior == DROP_CASCADE)
				pfa_wake_scheduler_at_commit();
			if (((DropStmt *) parsetree)->removeType == OBJECT_TRIGGER)
				triggers_dropped((DropStmt *) parsetree);
			break;
		case T_AlterTableStmt:
			table_altered(((AlterTableStmt *) parsetree)->relation);
			break;
		case T_CreateTrigStmt:
			table_altered(((CreateTrigStmt *) parsetree)->relation);
			break;
		case T_DropOwnedStmt:
			pfa_wake_scheduler_at_commit();
			break;
		case T_AlterForeignServerStmt:
			server_changed(((AlterForeignServerStmt *) parsetree)->servername);
			break;
		case T_CreateUserMappingStmt:
			server_changed(((CreateUserMappingStmt *) parsetree)->servername);
			break;
		case T_AlterUserMappingStmt:
			server_changed(((AlterUserMappingStmt *) parsetree)->servername);
			break;
		default:
			break;
	}
}

static void
run_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo params,
			QueryEnvironment *environment, DestReceiver *dest,
			QueryCompletion *completion)
{
	if (previous_hook)
		previous_hook(pstmt, query, read_only_tree, context, params,
					  environment, dest, completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params,
								environment, dest, completion);
}

/*
 * Run the command with the database's workers out.  Not inlined: in a frame of
 * its own nothing can be clobbered by PG_TRY's jump.
 */
static pg_noinline void
run_alone(Oid database, PlannedStmt *pstmt, const char *query,
		  bool read_only_tree, ProcessUtilityContext context,
		  ParamListInfo params, QueryEnvironment *environment,
		  DestReceiver *dest, QueryCompletion *completion)
{
	pfa_database_bar(database);
	PG_TRY();
	{
		empty_database(database);
		run_utility(pstmt, query, read_only_tree, context, params, environment,
					dest, completion);
	}
	PG_FINALLY();
	{
		pfa_database_unbar(database);
	}
	PG_END_TRY();
}

static void
hook(PlannedStmt *pstmt, const char *query, bool read_only_tree,
	 ProcessUtilityContext context, ParamListInfo params,
	 QueryEnvironment *environment, DestReceiver *dest,
	 QueryCompletion *completion)
{
	/* These commands run at top level only; elsewhere they just fail. */
	Oid database = context == PROCESS_UTILITY_TOPLEVEL ?
		wanted_database(pstmt->utilityStmt) :
		InvalidOid;

	if (OidIsValid(database))
		run_alone(database, pstmt, query, read_only_tree, context, params,
				  environment, dest, completion);
	else
		run_utility(pstmt, query, read_only_tree, context, params, environment,
					dest, completion);
	follow_up(pstmt->utilityStmt);
}

void
pfa_ddl_hook_install(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = hook;
}
