/*
 * sync_arguments.h
 *	  What the calls that begin a sync check alike.
 */
#ifndef PFA_SYNC_ARGUMENTS_H
#define PFA_SYNC_ARGUMENTS_H

#include "postgres.h"
#include "fmgr.h"

#include "catalog/sync_request.h"

/* NULL: all organizations. */
extern char *pfa_sync_organization_argument(FunctionCallInfo fcinfo, int arg);
/* auto, full, delta or force; an error names them. */
extern char *pfa_sync_mode_argument(FunctionCallInfo fcinfo, int arg);
/* An error on a standby, and where the transaction is read-only. */
extern void pfa_sync_check_writable(const char *call);
/* An error where the organization is unknown or cannot be synced. */
extern void
pfa_sync_check_request(const PfaRequest *request, const char *organization_id);
/* A NOTICE where the present run does less than was asked for. */
extern void pfa_sync_note_weaker(const PfaRequest *request,
								 const char *organization_id, const char *mode);

#endif /* PFA_SYNC_ARGUMENTS_H */
