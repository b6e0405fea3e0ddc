/*
 * guc.c
 *	  Every setting, in alphabetical order.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "guc.h"

bool		pfa_guc_enabled = true;
bool		pfa_guc_write_back = true;
int			pfa_guc_max_concurrent_syncs = 2;
double		pfa_guc_max_delete_fraction = 0.2;
char	   *pfa_guc_allowed_hosts;
int			pfa_guc_run_retention = 90 * 24 * 60;
int			pfa_guc_event_retention = 90 * 24 * 60;
int			pfa_guc_max_organizations = 200;
int			pfa_guc_slow_query_threshold = 1000;
bool		pfa_guc_track_statements = true;

#define MAX_RETENTION	(100 * 365 * 24 * 60)

void
pfa_guc_define(void)
{
	/*
	 * A superuser's list: it decides where the server connects to and sends
	 * credentials.
	 */
	DefineCustomStringVariable("pfa_vanguard.allowed_hosts",
							   "Sets the hosts that PEMS servers of roles without superuser rights may name.",
							   "A comma-separated list of host or host:port. Servers owned by a superuser need no entry.",
							   &pfa_guc_allowed_hosts, "", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomBoolVariable("pfa_vanguard.enabled",
							 "Sets whether organizations are synced.",
							 "Off, nothing is asked of any PEMS server; running syncs end.",
							 &pfa_guc_enabled, true, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("pfa_vanguard.event_retention",
							"Sets how long rows of pfa_event_log are kept.",
							"0 keeps them for ever.",
							&pfa_guc_event_retention, 90 * 24 * 60,
							0, MAX_RETENTION, PGC_SIGHUP, GUC_UNIT_MIN,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pfa_vanguard.max_concurrent_syncs",
							"Sets how many sync workers run at a time in the whole cluster.",
							"A large listing takes two of them if they are free. max_worker_processes must leave room for them, the launcher, and a scheduler for each database.",
							&pfa_guc_max_concurrent_syncs, 2, 1, 64,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomRealVariable("pfa_vanguard.max_delete_fraction",
							 "Sets the fraction of an organization's records that may vanish within a day.",
							 "A sync that would delete more fails and deletes nothing.",
							 &pfa_guc_max_delete_fraction, 0.2, 0.0, 1.0,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	/* It sizes shared memory; without that it only has to be known. */
	DefineCustomIntVariable("pfa_vanguard.max_organizations",
							"Sets how many organizations have metrics of their own, in the whole cluster.",
							"Those beyond share the label \"other\".",
							&pfa_guc_max_organizations, 200, 1, 10000,
							process_shared_preload_libraries_in_progress ?
							PGC_POSTMASTER : PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pfa_vanguard.run_retention",
							"Sets how long finished rows of pfa_sync_run are kept.",
							"0 keeps them for ever.",
							&pfa_guc_run_retention, 90 * 24 * 60,
							0, MAX_RETENTION, PGC_SIGHUP, GUC_UNIT_MIN,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pfa_vanguard.slow_query_threshold",
							"Sets the duration above which a statement on a table of the extension counts as slow.",
							"-1 counts none.",
							&pfa_guc_slow_query_threshold, 1000,
							-1, INT_MAX, PGC_SUSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("pfa_vanguard.track_statements",
							 "Sets whether statements on tables of the extension are counted and timed.",
							 NULL,
							 &pfa_guc_track_statements, true, PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("pfa_vanguard.write_back",
							 "Sets whether committed modifications are written to PEMS.",
							 NULL,
							 &pfa_guc_write_back, true, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	MarkGUCPrefixReserved("pfa_vanguard");
}
