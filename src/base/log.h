/* Log lines for operators: one line each, on stderr unless a sink is set.
 * Never prompts, answers, keys or other secrets. Any thread.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

typedef enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG } log_level;

/* Lines above this level are dropped. Default LOG_WARN; set once at start. */
void log_set_level(log_level level);
/* `room` names who speaks ("engine", "api"). A newline in the text is printed as a space. */
void log_line(log_level level, const char *room, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
