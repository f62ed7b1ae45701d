#!/usr/bin/env python
"""Time SSIM against scikit-image's on the same volumes, window and range, and with --subjects the whole evaluation of travelling subjects.

The subjects are simulated. Without --subjects the parts of one subject are timed; with it, N people scanned at both sites and four others of the
target site are written to a temporary folder and judged beside all baselines in one pass, and time and memory are printed subject by subject:
if memory grew with the number of subjects, that column would show it.
CPU seconds of this process are the figure to look at; wall seconds stand beside them. SSIM's two sides take turns.
"""
import argparse, os, platform, statistics, sys, tempfile, time
from pathlib import Path

from neuroscope.core import peak_mb

def timed(f):
    "Result, CPU seconds, wall seconds"
    c = time.process_time()
    w = time.perf_counter()
    out = f()
    return out, time.process_time()-c, time.perf_counter()-w

def subject(spacing):
    "A simulated patient at both sites, on the normalized scale"
    import numpy as np
    from neuroscope.core import image_data
    from neuroscope.simulate import scan, simulate_subject
    ph = simulate_subject(0, spacing=spacing)
    brain = ph.brain
    vols = [np.stack([image_data(i) for i in scan(ph, s).values()]) for s in 'ab']
    return [(v/np.percentile(v[:,brain], 99.5, axis=1)[:,None,None,None]).astype(np.float32)
            for v in vols],brain,ph.lesion

def resident():
    "This process's resident memory now, in MB"
    return next((int(l.split()[1])/1024
                 for l in open('/proc/self/status') if l.startswith('VmRSS')),
                float('nan')) if os.path.exists('/proc/self/status') else float('nan')

def write_cohorts(root, n, others, spacing):
    "Simulated travelling subjects at both sites and other people of site B, normalized; the truth stands for what was harmonized"
    import numpy as np
    from neuroscope.core import image_data, new_like, save_volume
    from neuroscope.simulate import scan, simulate_subject
    for i in range(n+others):
        ph = simulate_subject(i, spacing=spacing)
        id = f'S{i:03d}'
        for site,folder in (('a','source'), ('b','truth')) if i<n else (('b','target'),):
            for q,img in scan(ph, site).items():
                v = image_data(img)
                v = np.where(ph.brain, v/np.percentile(v[ph.brain], 99.5), 0).astype(np.float32)
                save_volume(new_like(img, v), root/folder/id/f'{id}_{q}.nii.gz')
            save_volume(new_like(img, ph.lesion.astype(np.uint8), dtype=np.uint8),
                        root/folder/id/f'{id}_seg.nii.gz')

def whole(n, others, spacing, radiomics, n_jobs):
    "The whole evaluation, printed subject by subject"
    from neuroscope.evaluation.cases import plan_evaluation
    with tempfile.TemporaryDirectory() as d:
        root = Path(d)
        write_cohorts(root, n, others, spacing)
        ev,c,w = timed(lambda: plan_evaluation(root/'source', root/'truth', root/'target',
                                               root/'truth', simulated=True))
        print(f'\nthe whole evaluation: {n} travelling subjects, {others} others of the '
              f'target site, {len(ev.methods)} methods, '
              f'{"with" if radiomics else "without"} radiomic features')
        print(f'{"":52s}{"CPU s":>8s}{"wall s":>8s}{"MB now":>8s}{"MB peak":>9s}')
        row = lambda k,c,w: print(f'{k:52s}{c:8.1f}{w:8.1f}{resident():8.0f}{peak_mb():9.0f}',
                                  flush=True)
        row('baselines fitted', c, w)
        last = [time.process_time(),time.perf_counter()]
        def each(id):
            now = [time.process_time(),time.perf_counter()]
            row(f'{id}, all methods, all parts', *(b-a for a,b in zip(last, now)))
            last[:] = now
        ev.measure(*('quality','site_effect','lesions')+(('features',) if radiomics else ()),
                   each=each, n_jobs=n_jobs)
        row("the target's people, tests and tables", time.process_time()-last[0],
            time.perf_counter()-last[1])
        _,c,w = timed(lambda: ev.write(root/'out'))
        row('the page', c, w)
        for p in ev.problems: print(f'note: {p}')

def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Example: python benchmarks/evaluation.py --spacing 2 --subjects 3')
    p.add_argument('--spacing', type=float, default=1., help='voxel size, mm (1)')
    p.add_argument('--reps', type=int, default=3, help='repetitions of the SSIM comparison (3)')
    p.add_argument('--subjects', type=int, metavar='N',
                   help='also judge N travelling subjects as a whole')
    p.add_argument('--others', type=int, default=4, help='other people of the target site (4)')
    p.add_argument('--no-radiomics', action='store_true', help='without radiomic features')
    p.add_argument('--n-jobs', type=int, default=1, metavar='N',
                   help='subjects at a time (1); CPU seconds and memory are then of this process '
                        'alone, without its workers')
    p.add_argument('--threads', type=int, help="of torch (torch's default)")
    args = p.parse_args()
    import numpy as np, torch
    from skimage.metrics import structural_similarity
    from neuroscope.evaluation.site_features import gap_features
    from neuroscope.evaluation.grey_values import rough_tissues
    from neuroscope.evaluation.image_quality import ssim, subject_metrics
    if args.threads: torch.set_num_threads(args.threads)
    cpu = next((l.split(':')[1].strip()
                for l in open('/proc/cpuinfo') if l.startswith('model name')),
               '') if os.path.exists('/proc/cpuinfo') else ''
    (a,b),mask,lesion = subject(args.spacing)
    base = peak_mb()
    print(f'{cpu or platform.processor() or platform.machine()}, '
          f'{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, torch '
          f'{torch.__version__}')
    print('one simulated subject, four sequences of '
          f'{"×".join(map(str, mask.shape))} voxels, {mask.sum():,} of them brain; '
          f'{base:.0f} MB at the peak before the evaluation')

    def reference():
        _,full = structural_similarity(np.where(mask, a[0], 0), np.where(mask, b[0], 0),
                                       data_range=1., win_size=7, full=True)
        return float(full[mask].mean(dtype=np.float64))
    ours = []
    theirs = []
    for _ in range(args.reps):
        s,*t = timed(lambda: ssim(a[0], b[0], mask, 1.))
        ours.append(t)
        r,*t = timed(reference)
        theirs.append(t)
    if abs(s-r)>1e-4: sys.exit(f'the two SSIMs differ: {s:.6f} and {r:.6f}')
    def med(ts, i): return statistics.median(t[i] for t in ts)
    print(f'\nSSIM of one volume, 7-voxel window, both {s:.4f}{"":14s}{"CPU s":>8s}{"wall s":>8s}')
    for n,ts in (('scikit-image, whole volume', theirs), ('neuroscope', ours)):
        print(f'{n:52s}{med(ts,0):8.2f}{med(ts,1):8.2f}')
    print(f'{"ratio":52s}{med(theirs,0)/med(ours,0):7.1f}x{med(theirs,1)/med(ours,1):7.1f}x   median of {args.reps}, in turn')

    print(f'\nper subject{"":41s}{"CPU s":>8s}{"wall s":>8s}')
    for n,f in (('image quality: 5 metrics, 4 sequences', lambda: subject_metrics(a, b, mask)),
                ('site tests: tissues, patches, histograms',
                 lambda: gap_features('x', a, mask, rough_tissues(a, mask, lesion)))):
        _,c,w = timed(f)
        print(f'{n:52s}{c:8.2f}{w:8.2f}')
    print(f'peak memory of the process {peak_mb():.0f} MB', flush=True)
    del a, b
    if args.subjects:
        whole(args.subjects, args.others, args.spacing, not args.no_radiomics, args.n_jobs)

if __name__=='__main__': main()
