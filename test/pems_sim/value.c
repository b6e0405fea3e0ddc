/*
 * value.c
 *	  The grid's columns, their values, and how values are spelled.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sim.h"

SimField sim_fields[SIM_NFIELDS] =
	{{"pfs_id", "pfaId", "PFS_ID", SIM_KIND_ID, 0},
	 {"pfs_a_org", "organization", "PFS_A_ORG", SIM_KIND_ORG, 0},
	 {"description", "description", NULL, SIM_KIND_TEXT, SIM_DESCRIPTION},
	 {"pfs_f_area", "areaSilo", NULL, SIM_KIND_TEXT, SIM_AREA},
	 {"pfs_f_category", "category", "PFS_F_CATEGORY", SIM_KIND_TEXT,
	  SIM_CATEGORY},
	 {"pfs_f_catdesc", "forecastCategory", NULL, SIM_KIND_TEXT,
	  SIM_FORECAST_CATEGORY},
	 {"pfs_f_class", "class", "PFS_F_CLASS", SIM_KIND_TEXT, SIM_CLASS},
	 {"pfs_f_source", "source", "PFS_F_SOURCE", SIM_KIND_TEXT, SIM_SOURCE},
	 {"pfs_f_dor", "dor", "PFS_F_DOR", SIM_KIND_TEXT, SIM_DOR},
	 {"pfs_f_manufacturer", "manufacturer", "PFS_F_MANUFACT", SIM_KIND_TEXT,
	  SIM_MANUFACTURER},
	 {"pfs_f_model", "model", "PFS_F_MODEL", SIM_KIND_TEXT, SIM_MODEL},
	 {"pfs_f_rental", "monthlyRate", "PFS_F_RATE", SIM_KIND_NUMBER, SIM_RATE},
	 {"pfs_f_purchase", "purchasePrice", "PFS_F_PRICE", SIM_KIND_NUMBER,
	  SIM_PRICE},
	 {"pfs_p_startdate", "originalStart", NULL, SIM_KIND_DATE, SIM_PLAN_START},
	 {"pfs_p_enddate", "originalEnd", NULL, SIM_KIND_DATE, SIM_PLAN_END},
	 {"pfs_f_startdate", "forecastStart", "PFS_F_STARTDATE", SIM_KIND_DATE,
	  SIM_FORECAST_START},
	 {"pfs_f_enddate", "forecastEnd", "PFS_F_ENDDATE", SIM_KIND_DATE,
	  SIM_FORECAST_END},
	 {"pfs_a_startdate", "actualStart", NULL, SIM_KIND_DATE, SIM_ACTUAL_START},
	 {"pfs_a_enddate", "actualEnd", NULL, SIM_KIND_DATE, SIM_ACTUAL_END},
	 {"pfs_f_actualized", "isActualized", NULL, SIM_KIND_BOOLEAN,
	  SIM_ACTUALIZED},
	 {"pfs_f_discontinued", "isDiscontinued", "PFA_DIS", SIM_KIND_BOOLEAN,
	  SIM_DISCONTINUED},
	 {"pfs_f_fundstrans", "isFundsTransferable", "PFS_FT", SIM_KIND_BOOLEAN,
	  SIM_FUNDS},
	 {"pfs_p_projcode", "contract", NULL, SIM_KIND_TEXT, SIM_CONTRACT},
	 {"pfs_equipment_tag", "equipment", NULL, SIM_KIND_TEXT, SIM_EQUIPMENT},
	 {"pfs_lastmodified", "pemsVersion", NULL, SIM_KIND_MODIFIED, 0}};

/* Columns that the mirror does not map. */
static const char *const fillers[] =
	{"pfs_a_type",        "pfs_a_status",     "pfs_a_createdby",
	 "pfs_a_created",     "pfs_a_updatedby",  "pfs_a_updatecount",
	 "pfs_a_buyer",       "pfs_a_costcode",   "pfs_a_department",
	 "pfs_a_location",    "pfs_a_vendor",     "pfs_a_ponumber",
	 "pfs_a_poline",      "pfs_a_comment",    "pfs_a_onrent",
	 "pfs_a_offrent",     "pfs_f_duration",   "pfs_f_quantity",
	 "pfs_f_uom",         "pfs_f_shift",      "pfs_f_operator",
	 "pfs_f_fuel",        "pfs_f_capacity",   "pfs_f_capuom",
	 "pfs_f_subcategory", "pfs_f_remarks",    "pfs_f_priority",
	 "pfs_f_currency",    "pfs_f_mobcost",    "pfs_f_demobcost",
	 "pfs_f_budgetcode",  "pfs_p_duration",   "pfs_p_quantity",
	 "pfs_p_phase",       "pfs_p_discipline", "pfs_p_wbs",
	 "pfs_p_activity",    "pfs_p_costtype",   "pfs_u_char01",
	 "pfs_u_char02",      "pfs_u_char03",     "pfs_u_char04",
	 "pfs_u_num01",       "pfs_u_num02",      "pfs_u_date01",
	 "pfs_u_date02",      "pfs_u_chk01",      "pfs_u_chk02"};

_Static_assert(SIM_NMAPPED + sizeof(fillers) / sizeof(fillers[0]) ==
				   SIM_NFIELDS,
			   "columns of a row");

void
sim_fields_init(void)
{
	int i;

	for (i = SIM_NMAPPED; i < SIM_NFIELDS; i++)
	{
		sim_fields[i].alias = fillers[i - SIM_NMAPPED];
		sim_fields[i].kind = SIM_KIND_FILLER;
		sim_fields[i].index = i - SIM_NMAPPED;
	}
}

int
sim_field_find(const char *alias)
{
	int i;

	for (i = 0; i < SIM_NFIELDS; i++)
		if (strcasecmp(sim_fields[i].alias, alias) == 0)
			return i;
	return -1;
}

/* Half of these columns are blank in any one record. */
void
sim_filler(const SimRecord *record, int index, char *out, size_t size)
{
	static const char *const words[] = {"PLANNED",    "APPROVED",  "USD",
										"EACH",       "DAY",       "DIESEL",
										"M. ALVAREZ", "CIVIL",     "PIPING",
										"4100-220",   "WBS.03.17", "HIGH"};
	uint64_t random = (uint64_t) record->salt << 8 | (uint64_t) index;
	uint64_t value = sim_random(&random);

	out[0] = '\0';
	if (value & 1)
		return;
	value >>= 8;
	switch (index % 4)
	{
		case 0:
			snprintf(out, size, "%s", words[value % lengthof(words)]);
			break;
		case 1:
			snprintf(out, size, "%d", (int) (value % 5000));
			break;
		case 2:
			snprintf(out, size, "%s %d", words[value % lengthof(words)],
					 (int) (value / 16 % 100));
			break;
		default:
			break;
	}
}

/* Days since 1970-01-01 of a date, and back (proleptic Gregorian). */
int32_t
sim_days(int year, int month, int day)
{
	int y = year - (month <= 2);
	int era = (y >= 0 ? y : y - 399) / 400;
	int yoe = y - era * 400;
	int doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	int doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;

	return era * 146097 + doe - 719468;
}

void
sim_civil(int32_t days, int *year, int *month, int *day)
{
	int z = days + 719468;
	int era = (z >= 0 ? z : z - 146096) / 146097;
	int doe = z - era * 146097;
	int yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int mp = (5 * doy + 2) / 153;

	*day = doy - (153 * mp + 2) / 5 + 1;
	*month = mp < 10 ? mp + 3 : mp - 9;
	*year = yoe + era * 400 + (*month <= 2);
}

static const char *const months[] = {"JAN", "FEB", "MAR", "APR", "MAY", "JUN",
									 "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"};

/* out: at least 40 bytes, as for the other formats */
void
sim_format_date(char *out, int32_t days, int style)
{
	int year;
	int month;
	int day;

	sim_civil(days, &year, &month, &day);
	if (style == SIM_DATE_ISO)
		snprintf(out, 40, "%04d-%02d-%02d", year, month, day);
	else if (style == SIM_DATE_ISOTIME)
		snprintf(out, 40, "%04d-%02d-%02dT00:00:00", year, month, day);
	else if (style == SIM_DATE_DMY)
		snprintf(out, 40, "%02d-%s-%04d", day, months[month - 1], year);
	else
		snprintf(out, 40, "%02d/%02d/%04d", month, day, year);
}

void
sim_format_time(char *out, int64_t ms)
{
	int year;
	int month;
	int day;
	int rest = (int) (ms % 86400000);

	sim_civil((int32_t) (ms / 86400000), &year, &month, &day);
	snprintf(out, 40, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", year, month, day,
			 rest / 3600000, rest / 60000 % 60, rest / 1000 % 60, rest % 1000);
}

/* A time as a client may write it in a filter; zones other than UTC no. */
bool
sim_parse_time(const char *text, int64_t *ms)
{
	int part[6] = {0, 1, 1, 0, 0, 0};
	char fraction[4] = "000";
	int n;

	n = sscanf(text, "%d-%d-%d%*1[T ]%d:%d:%d.%3[0-9]", &part[0], &part[1],
			   &part[2], &part[3], &part[4], &part[5], fraction);
	if (n < 3)
		return false;
	while (strlen(fraction) < 3)
		strcat(fraction, "0");
	*ms = (int64_t) sim_days(part[0], part[1], part[2]) * 86400000 +
		part[3] * 3600000 + part[4] * 60000 + part[5] * 1000 + atoi(fraction);
	return true;
}

/* Shortest decimal; with thousands, at least two decimals. */
void
sim_format_number(char *out, int64_t value, bool thousands)
{
	uint64_t magnitude = value < 0 ? -(uint64_t) value : (uint64_t) value;
	char whole[32];
	char fraction[8];
	int keep = 6;
	int len;
	int i;

	len = snprintf(whole, sizeof(whole), "%llu",
				   (unsigned long long) (magnitude / SIM_SCALE));
	snprintf(fraction, sizeof(fraction), "%06d", (int) (magnitude % SIM_SCALE));
	while (keep > (thousands ? 2 : 0) && fraction[keep - 1] == '0')
		keep--;
	if (value < 0)
		*out++ = '-';
	for (i = 0; i < len; i++)
	{
		if (thousands && i > 0 && (len - i) % 3 == 0)
			*out++ = ',';
		*out++ = whole[i];
	}
	if (keep > 0)
		*out++ = '.';
	memcpy(out, fraction, keep);
	out[keep] = '\0';
}

void
sim_field_text(const SimRecord *record, const char *org, int field, SimBuf *buf)
{
	const SimField *f = &sim_fields[field];
	char text[80] = "";

	switch (f->kind)
	{
		case SIM_KIND_ID:
			sim_buf_puts(buf, record->id);
			return;
		case SIM_KIND_ORG:
			sim_buf_puts(buf, org);
			return;
		case SIM_KIND_TEXT:
			sim_buf_puts(buf, record->text[f->index]);
			return;
		case SIM_KIND_MODIFIED:
			sim_format_time(text, record->modified);
			break;
		case SIM_KIND_NUMBER:
			if (record->number[f->index] != SIM_NO_NUMBER)
				sim_format_number(text, record->number[f->index], false);
			break;
		case SIM_KIND_DATE:
			if (record->date[f->index] != SIM_NO_DATE)
				sim_format_date(text, record->date[f->index], SIM_DATE_ISO);
			break;
		case SIM_KIND_BOOLEAN:
			if (record->boolean[f->index] != SIM_BLANK)
				strcpy(text, record->boolean[f->index] == SIM_TRUE ? "Y" : "N");
			break;
		case SIM_KIND_FILLER:
			sim_filler(record, f->index, text, sizeof(text));
			break;
	}
	sim_buf_puts(buf, text);
}

static bool
parse_number(const char *text, int64_t *value)
{
	bool negative = *text == '-';
	int64_t n = 0;
	int64_t unit = 0;
	int digits = 0;

	text += negative || *text == '+';
	for (; *text; text++)
	{
		if (*text == '.' && unit == 0)
			unit = SIM_SCALE;
		else if (*text >= '0' && *text <= '9')
		{
			if (++digits > 18)
				return false;
			if (unit == 0)
				n = n * 10 + (int64_t) (*text - '0') * SIM_SCALE;
			else
				n += (int64_t) (*text - '0') * (unit /= 10);
		}
		else if (*text != ',')
			return false;
	}
	*value = negative ? -n : n;
	return digits > 0;
}

static bool
parse_date(const char *text, int32_t *days)
{
	int a;
	int b;
	int c;
	char name[4];
	int m;

	if (sscanf(text, "%4d-%2d-%2d", &a, &b, &c) == 3 && a >= 1000)
		*days = sim_days(a, b, c);
	else if (sscanf(text, "%2d/%2d/%4d", &a, &b, &c) == 3)
		*days = sim_days(c, a, b);
	else if (sscanf(text, "%2d-%3[A-Za-z]-%4d", &a, name, &c) == 3)
	{
		for (m = 0; m < 12 && strcasecmp(months[m], name) != 0; m++)
			;
		if (m == 12)
			return false;
		*days = sim_days(c, m + 1, a);
	}
	else
		return false;
	return true;
}

bool
sim_field_set(SimRecord *record, int field, const char *text)
{
	const SimField *f = &sim_fields[field];

	switch (f->kind)
	{
		case SIM_KIND_TEXT:
			record->text[f->index] = sim_keep(text, strlen(text));
			return true;
		case SIM_KIND_NUMBER:
			record->number[f->index] = SIM_NO_NUMBER;
			return *text == '\0' ||
				parse_number(text, &record->number[f->index]);
		case SIM_KIND_DATE:
			record->date[f->index] = SIM_NO_DATE;
			return *text == '\0' || parse_date(text, &record->date[f->index]);
		case SIM_KIND_BOOLEAN:
			record->boolean[f->index] = *text == '\0' ? SIM_BLANK :
				strcasecmp(text, "Y") == 0 || strcasecmp(text, "true") == 0 ||
					strcmp(text, "1") == 0 || strcmp(text, "-1") == 0 ||
					strcmp(text, "+") == 0 ?
														SIM_TRUE :
														SIM_FALSE;
			return true;
		case SIM_KIND_MODIFIED:
			return sim_parse_time(text, &record->modified);
		default:
			return false;
	}
}

/* One of the derived costs, by PEMS's rule; exact. */
static void
add_cost(SimBuf *out, const SimRecord *record, const char *key, int start)
{
	bool purchase = strcmp(record->text[SIM_SOURCE], "Purchase") == 0;
	int64_t rate = record->number[purchase ? SIM_PRICE : SIM_RATE];
	bool known = rate != SIM_NO_NUMBER;
	__int128 value = rate;
	__int128 unit = SIM_SCALE / 100;
	int64_t cents;

	if (!purchase)
	{
		known = known && record->date[start] != SIM_NO_DATE &&
			record->date[start + 1] != SIM_NO_DATE;
		/* days / 30.44 * rate, in cents */
		value = value * 100 *
			((int64_t) record->date[start + 1] - record->date[start]);
		unit = unit * 3044;
	}
	if (start == SIM_ACTUAL_START &&
		record->boolean[SIM_ACTUALIZED] != SIM_TRUE)
		known = false;
	if (!known)
	{
		sim_buf_printf(out, ",\"%s\":null", key);
		return;
	}
	cents = (int64_t) (((value < 0 ? -value : value) * 2 + unit) / (unit * 2));
	sim_buf_printf(out, ",\"%s\":%s%lld.%02d", key,
				   value < 0 && cents > 0 ? "-" : "", (long long) (cents / 100),
				   (int) (cents % 100));
}

/* The record as the mirror must have it, and a line end. */
void
sim_canonical(SimBuf *out, const SimRecord *record, const char *org)
{
	SimBuf text = {0};
	int i;

	for (i = 0; i < SIM_NMAPPED; i++)
	{
		const SimField *f = &sim_fields[i];

		sim_buf_printf(out, "%s\"%s\":", i ? "," : "{", f->key);
		text.len = 0;
		sim_field_text(record, org, i, &text);
		if (f->kind == SIM_KIND_BOOLEAN)
			sim_buf_puts(out,
						 record->boolean[f->index] == SIM_TRUE ? "true" :
																 "false");
		else if (text.len == 0 && strcmp(f->key, "source") == 0)
			sim_buf_puts(out, "\"Rental\"");
		else if (text.len == 0 && strcmp(f->key, "dor") == 0)
			sim_buf_puts(out, "\"PROJECT\"");
		else if (text.len == 0)
			sim_buf_puts(out, "null");
		else if (f->kind == SIM_KIND_NUMBER)
			sim_buf_puts(out, text.data);
		else
			sim_buf_json(out, text.data, false);
	}
	add_cost(out, record, "planCost", SIM_PLAN_START);
	add_cost(out, record, "forecastCost", SIM_FORECAST_START);
	add_cost(out, record, "actualCost", SIM_ACTUAL_START);
	sim_buf_puts(out, "}\n");
	sim_buf_free(&text);
}
