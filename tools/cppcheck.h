/* What cppcheck, which sees no header of the server, has to know of it. */
void		abort(void);
#define DEBUG1 14
#define LOG 15
#define NOTICE 18
#define WARNING 19
#define ERROR 21
#define FATAL 22
#define ereport(elevel, ...) do { if ((elevel) >= ERROR) abort(); } while (0)
#define elog(elevel, ...) do { if ((elevel) >= ERROR) abort(); } while (0)
#define HAVE_INT128 1
#define foreach(cell, list) \
	for ((cell) = list_head(list); (cell); (cell) = lnext((list), (cell)))
