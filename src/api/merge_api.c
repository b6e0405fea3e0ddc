/*
 * merge_api.c
 *	  Records as a user sees them, and drafts: pfa_get, pfa_record, pfa_draft,
 *	  pfa_commit, pfa_discard.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/jsonb.h"

#include "api/cached.h"
#include "catalog/mirror.h"
#include "catalog/user_organization.h"
#include "merge/draft.h"
#include "merge/page.h"
#include "merge/record.h"
#include "metrics/counters.h"

PG_FUNCTION_INFO_V1(pfa_merged_row);
PG_FUNCTION_INFO_V1(pfa_touched_columns);
PG_FUNCTION_INFO_V1(pfa_field_mapping_forget);

#define MAX_SESSION_ID 255

/* ---- arguments ---- */

static void
check_not_null(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

static char *
get_session_id(FunctionCallInfo fcinfo, int arg)
{
	char *session_id;

	if (PG_ARGISNULL(arg))
		return NULL;
	session_id = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if (session_id[0] == '\0' || strlen(session_id) > MAX_SESSION_ID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("session_id must be 1 to %d bytes long",
						MAX_SESSION_ID)));
	return session_id;
}

/* The caller as an editor of organization_id, the first argument. */
static void
get_owner(FunctionCallInfo fcinfo, const char *call, PfaDraftOwner *owner)
{
	PreventCommandIfReadOnly(call);
	check_not_null(fcinfo, 0, "organization_id");
	owner->organization_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	pfa_caller_require(owner->organization_id, PFA_ROLE_EDITOR);
	/* A copy: the setting may change while the call goes on. */
	owner->user_id = pstrdup(pfa_caller_id());
}

/* ---- calls ---- */

/*
 * pfa_get(organization_id text, filters jsonb, page_size int, cursor text,
 *		   sort_by text, sort_order text) returns jsonb
 */
PFA_API_FUNCTION(pfa_get, PFA_ENDPOINT_GET)
{
	PfaPageRequest request;

	check_not_null(fcinfo, 0, "organization_id");
	check_not_null(fcinfo, 1, "filters");
	check_not_null(fcinfo, 2, "page_size");
	check_not_null(fcinfo, 4, "sort_by");
	check_not_null(fcinfo, 5, "sort_order");
	request.organization_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	pfa_caller_require(request.organization_id, PFA_ROLE_VIEWER);
	if (!pfa_organization_exists(request.organization_id))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("organization \"%s\" does not exist",
						request.organization_id)));
	request.user_id = pfa_caller_id();
	request.filters = PG_GETARG_JSONB_P(1);
	pfa_filter_parse(&request.filter, request.filters);
	request.page_size = PG_GETARG_INT32(2);
	if (request.page_size < 1 || request.page_size > PFA_MAX_PAGE_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("page_size must be between 1 and %d",
						PFA_MAX_PAGE_SIZE),
				 errdetail("It is %d.", request.page_size)));
	request.cursor = PG_ARGISNULL(3) ? NULL :
									   text_to_cstring(PG_GETARG_TEXT_PP(3));
	pfa_sort_parse(&request.sort, text_to_cstring(PG_GETARG_TEXT_PP(4)),
				   text_to_cstring(PG_GETARG_TEXT_PP(5)));
	PG_RETURN_JSONB_P(pfa_cached_page(&request));
}

/* pfa_record(organization_id text, pfa_id text) returns jsonb, strict */
PFA_API_FUNCTION(pfa_record, PFA_ENDPOINT_RECORD)
{
	char *organization_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	text *pfa_id = PG_GETARG_TEXT_PP(1);
	Jsonb *element;

	pfa_caller_require(organization_id, PFA_ROLE_VIEWER);
	element = pfa_merge_record(organization_id, pfa_caller_id(),
							   VARDATA_ANY(pfa_id), VARSIZE_ANY_EXHDR(pfa_id));
	if (element == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(element);
}

/* pfa_merged_row(organization_id text, pfa_id text) returns setof, strict */
Datum
pfa_merged_row(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *organization_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	text *pfa_id = PG_GETARG_TEXT_PP(1);
	Datum values[PFA_MERGED_ROW_NATTS];
	bool nulls[PFA_MERGED_ROW_NATTS];

	pfa_caller_require(organization_id, PFA_ROLE_VIEWER);
	InitMaterializedSRF(fcinfo, 0);
	if (result->setDesc->natts != PFA_MERGED_ROW_NATTS)
		elog(ERROR, "pfa_merged_row has %d columns instead of %d",
			 result->setDesc->natts, PFA_MERGED_ROW_NATTS);
	if (pfa_merge_row(organization_id, pfa_caller_id(), VARDATA_ANY(pfa_id),
					  VARSIZE_ANY_EXHDR(pfa_id), values, nulls))
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	return (Datum) 0;
}

/* pfa_draft(organization_id text, modifications jsonb, session_id text) */
PFA_API_FUNCTION(pfa_draft, PFA_ENDPOINT_DRAFT)
{
	PfaDraftOwner owner;
	char *session_id;

	get_owner(fcinfo, "pfa_draft()", &owner);
	check_not_null(fcinfo, 1, "modifications");
	session_id = get_session_id(fcinfo, 2);
	PG_RETURN_JSONB_P(pfa_draft_save(&owner, session_id, PG_GETARG_JSONB_P(1)));
}

/* pfa_commit(organization_id text, session_id text) */
PFA_API_FUNCTION(pfa_commit, PFA_ENDPOINT_COMMIT)
{
	PfaDraftOwner owner;

	get_owner(fcinfo, "pfa_commit()", &owner);
	PG_RETURN_JSONB_P(pfa_draft_commit(&owner, get_session_id(fcinfo, 1)));
}

/*
 * pfa_discard(organization_id text, session_id text, pfa_ids text[],
 *			   discard_all boolean)
 */
PFA_API_FUNCTION(pfa_discard, PFA_ENDPOINT_DISCARD)
{
	PfaDraftOwner owner;
	char *session_id;
	bool have_ids = !PG_ARGISNULL(2);
	bool all = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);

	get_owner(fcinfo, "pfa_discard()", &owner);
	session_id = get_session_id(fcinfo, 1);
	if (!all && session_id == NULL && !have_ids)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("nothing says which drafts to discard"),
				 errhint(
					 "Give session_id or pfa_ids, or discard_all => true.")));
	if (all && (session_id != NULL || have_ids))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg(
				 "discard_all cannot be combined with session_id or pfa_ids")));
	PG_RETURN_JSONB_P(
		pfa_draft_discard(&owner, session_id,
						  have_ids ? PG_GETARG_DATUM(2) : (Datum) 0, have_ids));
}

/* ---- for the tables ---- */

/* pfa_touched_columns(delta jsonb) returns bigint, strict, immutable */
Datum
pfa_touched_columns(PG_FUNCTION_ARGS)
{
	Jsonb *delta = PG_GETARG_JSONB_P(0);

	/* The table's check says what is wrong with anything else. */
	if (!JB_ROOT_IS_OBJECT(delta))
		PG_RETURN_INT64(0);
	PG_RETURN_INT64((int64) pfa_mirror_touched(&delta->root));
}

/* Statement trigger of pfa_field_mapping, see field_table.c. */
Datum
pfa_field_mapping_forget(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called as a trigger",
						"pfa_field_mapping_forget")));
	CacheInvalidateRelcache(trigger->tg_relation);
	PG_RETURN_POINTER(NULL);
}
