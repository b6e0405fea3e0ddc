/*
 * activity.c
 *	  What a process tells of itself at its transactions.
 */
#include "postgres.h"

#include "access/xact.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"

#include "activity.h"

void
pfa_activity_begin(void)
{
	if (MyBgworkerEntry == NULL)
		return;
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, NULL);
}

void
pfa_activity_end(void)
{
	if (MyBgworkerEntry == NULL)
		return;
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}
