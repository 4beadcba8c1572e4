// The npm package `eventsource` as an application uses it: reads a stream and prints a JSON line for each thing it meets.
//
//   node eventsource.ts URL NAMES [--keep]
//
// NAMES: the events to listen to, with commas. Ends at `done`, or with --keep when the server says that there is no more.
import { EventSource } from 'eventsource'

const [url, names, keep] = process.argv.slice(2)
const source = new EventSource(url)
const tell = (met: object): void => console.log(JSON.stringify(met))

source.addEventListener('open', () => tell({ met: 'open' }))
// A cut is an error without a message's data; the server's own event named `error` comes as a message, with data.
source.addEventListener('error', (event: Event & { code?: number; data?: string; lastEventId?: string }) => {
  if (event.data !== undefined) {
    tell({ met: 'event', name: 'error', id: event.lastEventId, data: event.data })
    return
  }
  tell({ met: 'cut', state: source.readyState, status: event.code ?? null })
  if (source.readyState === EventSource.CLOSED) process.exit(0)
})
for (const name of names.split(',').filter((each) => each !== 'error')) {
  source.addEventListener(name, (event: MessageEvent) => {
    tell({ met: 'event', name, id: event.lastEventId, data: event.data })
    if (name === 'done' && keep !== '--keep') {
      source.close()
      process.exit(0)
    }
  })
}
