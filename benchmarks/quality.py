#!/usr/bin/env python
"""Which technique pays: an ablation of two recipes on a simulated cohort, against baselines and a rescan, over three seeds.

Everything here is simulated. A cohort of patients at site A, other patients at site B, and travelling patients scanned at both (grid of 2.5 mm)
is preprocessed as the library does it (N4, percentiles). Each method is trained without pairs and judged on the travelling patients: PSNR and
SSIM in the brain against the real scan at the other site, noise included, means over the four sequences.

Training is bounded by iterations, not by time, so that the load of the machine changes nothing. One JSON line is appended for each finished
run; what is there already is not run again, so the script may be stopped at any moment and started anew. `--csv` writes the
tables that the notebook on quality reads. `--normalizations` runs a few methods under other normalizations than percentiles instead.
"""
import argparse, copy, json, os, random, time
from pathlib import Path

import numpy as np, pandas as pd, torch

RESULTS = Path(__file__).parent/'results'
# part of the lesion (necrosis, edema, enhancing) of each simulated tissue
PARTS = (0,0,0,2,3,1)
FAST = ('fast, without restoration','fast, before training','fast, two planes')
SPACING = 2.5   # mm; training patients a site, and where more are to help; travelling patients
TRAIN = 6
MORE = 12
TRAVELLING = 8

# The cohort

def preprocessed(images, mask):
    "Four normalized sequences (4,X,Y,Z), background 0; and the offset and scale (4,2) that were taken off the scanner's values after N4"
    from neuroscope.core import stack_sequences
    from neuroscope.preprocessing.steps import n4_step, percentile_step
    images,*_ = n4_step(images, mask)
    images,_,found = percentile_step(images, mask)
    return stack_sequences(images).astype(np.float32)*mask, np.array(
        [(found[q]['offset'], found[q]['scale']) for q in images])

def scan_of(group, i, sites, draws=(0,)):
    "One simulated patient: site and draw -> (4,X,Y,Z); and their scales, and which part of the lesion most of a voxel is"
    from neuroscope.simulate import scan, simulate_subject, subject_seed
    p = simulate_subject(subject_seed(0, group, i), spacing=SPACING, margin=2)
    scans = {f'{s}{d}': preprocessed(scan(p, s, draw=d), p.brain) for s in sites for d in draws}
    return {k: v for k,(v,_) in scans.items()}, {f'{k}_scale': w for k,(_,w) in scans.items()} | dict(labels=np.choose(p.maps.argmax(0), PARTS).astype(np.uint8))

def cohort(cache):
    "Training patients of both sites and travelling ones, simulated once, and the folder where they are kept, their lesions, and all that is known of them. A patient: site and draw -> volume; and scales, and `labels`"
    cache.mkdir(parents=True, exist_ok=True)
    def get(group, i, sites, draws=(0,)):
        path = cache/f'{group}-{i}.npz'
        if not path.exists():
            vols,more = scan_of(group, i, sites, draws)
            np.savez(tmp := path.with_suffix('.tmp.npz'), **more,
                     **{k: v.astype(np.float16) for k,v in vols.items()})
            tmp.replace(path)
        with np.load(path) as f:
            return {k: f[k].astype(np.float32) if f[k].dtype==np.float16 else f[k] for k in f.files}
    travelling = [get('travelling', i, 'ab', (0,1)) for i in range(TRAVELLING)]
    people = {s: [get(s, i, s) for i in range(MORE)] for s in 'ab'}
    return {s: [p[f'{s}0'] for p in people[s]]
            for s in 'ab'},travelling,cache,{s: [p['labels'] for p in people[s]]
                                             for s in 'ab'},people

def store_of(vols, plane, size=None, labels=None):
    "Slices and their subjects, as a loader takes them; with the lesion's labels, where they are given"
    from neuroscope.data.loaders import SliceSource, common_size, pad_crop
    from neuroscope.preprocessing.slices import extract_slices
    slices = [extract_slices(v, (v!=0).any(0), plane=plane)[0] for v in vols]
    size = size or common_size(*[x.shape for x in slices])
    if labels:
        labels = (
            np.concatenate([pad_crop(extract_slices(l[None], (v!=0).any(0), plane=plane)[0][:,0],
                                     size) for l,v in zip(labels, vols)]).astype(np.uint8))
    return SliceSource(np.concatenate([pad_crop(x, size) for x in slices]),
                       np.repeat([f's{i}' for i in range(len(vols))], [len(x) for x in slices]),
                       plane=plane, labels=labels)

# Measuring

def contrast(vol, scale, part, normal):
    "Brightness of a part in one sequence against the median of normal tissue, as in the scanner's values: no scale plays a part in it"
    offset,width = scale
    return (vol[part]*width+offset).mean()/np.median(vol[normal]*width+offset)

def judge(translate, travelling):
    """A row a patient and direction: PSNR and SSIM, means over the sequences; PSNR when each sequence may be multiplied by the number that suits it
    best, in the lesion, and in normal tissue; how much too bright the enhancing part is in T1ce, and how far contrasts to normal tissue are off (enhancing
    part in T1ce, edema in FLAIR). Whatever normalization the volumes have, they are judged in units of the true scan's percentiles. `translate(vol, mask, direction)`"""
    from neuroscope.evaluation.image_quality import psnr, ssim
    rows = []
    for i,t in enumerate(travelling):
        for d in ('a2b','b2a'):
            # from another normalization to the percentiles of the true scan
            back = t.get(f'{d[-1]}0_back')
            def on(v): return v if back is None else (v*back[0]+back[1])*(v!=0).any(0)
            truth = on(t[f'{d[-1]}0'])
            mask = (t['a0']!=0).any(0) & (t['b0']!=0).any(0)
            out = on(translate(t[f'{d[0]}0'], (t[f'{d[0]}0']!=0).any(0), d))
            def mean(f, m=mask, k=(1,) * 4):
                return float(np.mean([f(x*s, y, m, 1.) for x,y,s in zip(out, truth, k)]))
            best = [(x*y)[mask].sum()/(x*x)[mask].sum() for x,y in zip(out, truth)]
            rim,edema,normal = (mask & (t['labels']==k) for k in (3, 2, 0))
            def off(q, part):
                return float(
                    contrast(out[q], w[q], part, normal) - contrast(truth[q], w[q], part, normal))
            w = t[f'{d[-1]}0_scale']
            rows.append(
                dict(subject=i, direction=d, psnr=mean(psnr), ssim=mean(ssim),
                     psnr_scaled=mean(psnr, k=best), psnr_lesion=mean(psnr, mask & (t['labels']>0)),
                     rim_t1ce=float((out[1]-truth[1])[rim].mean()), psnr_normal=mean(psnr, normal),
                     rim_contrast=off(1, rim), edema_contrast=off(3, edema)))
    return rows

# Other normalizations

NORMALIZATIONS = ('percentiles','percentiles outside the lesion',
                  '90th percentile in T1ce and FLAIR','white matter','median outside the lesion')
# where each puts its landmark, so that a tumour that is brighter stays within the models' range,
# which ends at 1.25: the high percentile of normal tissue; in T1, T1ce, T2, FLAIR
TOP = .75
HIGH = (99.5,90,99.5,90)
AT = (1.,.7,1.,.65)
WHITE = (.8,.65,.3,.5)
MEDIAN = (.62,.55,.5,.55)

def scale_of(name, values, lesion):
    "Offset and scale (4,) of a scan, from its brain after N4 (4,N) and where its lesion is (N,)"
    from neuroscope.evaluation.landmarks import white_stripe
    from neuroscope.preprocessing.normalization import PercentileNormalizer
    if name=='white matter':
        return np.zeros(4), np.median(values[:,white_stripe(values[0])], axis=1)/WHITE
    if name=='median outside the lesion':
        return np.zeros(4), np.median(values[:,~lesion], axis=1)/MEDIAN
    if name=='percentiles outside the lesion':
        values = values[:,~lesion]
        high = (99.5,)*4
        top = (TOP,)*4
    else: high,top = (HIGH,AT) if name.startswith('90th') else ((99.5,)*4,(1.,)*4)
    fitted = [PercentileNormalizer(.5, h, (0, t)).fit(v) for v,h,t in zip(values, high, top)]
    return np.array([(n.offset, n.scale) for n in fitted]).T

def renormalized(data, name):
    "The cohort under another normalization. A patient gets `a0_back` and so on, for `judge`: factors and offsets from there to the percentiles' scale"
    def again(vol, scale, labels):
        brain = (vol!=0).any(0)
        (offset,width) = scale.T[...,None]
        values = vol[:,brain].astype(np.float64)*width + offset
        o,w = scale_of(name, values, labels[brain]>0)
        out = np.zeros_like(vol)
        out[:,brain] = (values-o[:,None])/w[:,None]
        return out, np.stack(
            [w/width[:,0], (o-offset[:,0])/width[:,0]])[...,None,None,None].astype(np.float32)
    def new(p):
        return p | {n: x for k in p if f'{k}_scale' in p
                    for n,x in zip((k, f'{k}_back'), again(p[k], p[f'{k}_scale'], p['labels']))}
    (cache := data[2]/name.replace(' ', '_')).mkdir(exist_ok=True)
    people = {s: [new(p) for p in data[4][s]] for s in 'ab'}
    return {
        s: [p[f'{s}0'] for p in people[s]] for s in 'ab'},[new(t)
                                                           for t in data[1]],cache,data[3],people

def rescan(travelling):
    "The ceiling: the target site's second scan against its first"
    by_shape = {(t[f'{d[0]}0']).tobytes(): t[f'{d[-1]}1'] for t in travelling
                for d in ('a2b','b2a')}
    return lambda vol, mask, direction: by_shape[vol.tobytes()]

# Training

def iterations(n):
    "A callback: stop after `n` iterations, with schedules that know it"
    from fastai.basics import Callback, CancelFitException
    from fastai.callback.all import ParamScheduler
    class Iterations(Callback):
        order = ParamScheduler.order-5
        done = 0
        def before_batch(self): self.learn.pct_train = self.done/n
        def after_batch(self):
            self.done += 1
            if self.done>=n: raise CancelFitException
    return Iterations()

def train(learn, n, lr, share=(0.,1.)):
    "`n` iterations; the rate is constant for the first half of the whole training and decays linearly in the second. `share`: which part of the whole this is"
    from fastai.callback.all import ParamScheduler
    from neuroscope.trainers.schedule import linear_decay
    whole = linear_decay(.5, .5, lr)
    sched = ParamScheduler(dict(lr=lambda pct: whole(share[0] + pct*(share[1]-share[0]))))
    with learn.no_bar(), learn.no_logging(): learn.fit(10**6, lr=lr, cbs=[sched, iterations(n)])

def without_spectral_norm(model):
    from torch.nn.utils import parametrize
    for m in list(model.discriminators().modules()):
        if parametrize.is_parametrized(m): parametrize.remove_parametrizations(m, 'weight')

def blind_to_noise(model, sigma=1.):
    "The discriminators see slices through a Gaussian blur (`sigma` in pixels), real and translated alike: noise is no longer what gives a fake away"
    k = torch.exp(-.5*(torch.arange(-int(3*sigma), int(3*sigma)+1)/sigma)**2)
    k = (k/k.sum()).expand(4, 1, 1, -1)
    class Blur(torch.nn.Module):
        def forward(self, x):
            for w in (k, k.mT): x = torch.nn.functional.conv2d(x, w, padding='same', groups=4)
            return x
    for s in 'ab':
        setattr(model, f'discriminator_{s}',
                torch.nn.Sequential(Blur(), getattr(model, f'discriminator_{s}')))

def informative(store, seed, n=4):
    "The slices drawn anew, `n` times as many, with weights of brain area times entropy"
    from neuroscope.data.loaders import SliceSource
    from neuroscope.preprocessing.slices import slice_entropy
    w = np.array([slice_entropy(x)*(x!=0).any(0).sum() for x in store.slices])
    rows = np.random.default_rng(seed).choice(len(w), n*len(w), p=w/w.sum())
    return SliceSource(store.slices[rows], store.subjects[rows], plane=store.plane)

def halved(store):
    "The same slices at half the resolution"
    from neuroscope.data.loaders import SliceSource, common_size, pad_crop
    x = torch.nn.functional.avg_pool2d(torch.from_numpy(store.slices), 2).numpy()
    return SliceSource(pad_crop(x, common_size(x.shape)), store.subjects, plane=store.plane)

_MAPS = {}
def tone_maps(vols, seed):
    "The joint tone maps of a seed, fitted once"
    from neuroscope.models.tone_map import fit_tone_maps, sample_voxels
    if seed not in _MAPS:
        _MAPS[seed] = fit_tone_maps(
            *(sample_voxels(vols[s], seed=seed+k) for k,s in enumerate('ab')), seed=seed)
    return copy.deepcopy(_MAPS[seed])

def document(data, seed, n=50, lr=(1e-4,4e-4), filters=8, blocks=3, bs=2, pool=50, r1=10.,
             identity=5., adversarial=1., spectral=True, tone_map=True, progressive=False,
             sampling=False, blind=False, features=False, **loss):
    "The document's recipe with small networks on axial slices, and what can be changed in it. `loss`: further arguments of `CycleGANLoss`"
    from neuroscope.data.loaders import unpaired_dataloaders
    from neuroscope.models.components import ResnetGenerator
    from neuroscope.models.cyclegan import CycleGAN
    from neuroscope.models.tone_map import ToneMapGenerator
    from neuroscope.trainers.building import cyclegan_learner
    from neuroscope.trainers.losses import CycleGANLoss
    vols = {s: data[0][s][:TRAIN] for s in 'ab'}
    maps = tone_maps(vols, seed) if tone_map else ()
    torch.manual_seed(seed)
    gens = {f'generator_{d}': ToneMapGenerator(m, ResnetGenerator(4, 4, filters, blocks))
            for d,m in zip(('a2b','b2a'), maps)}
    model = CycleGAN(4, filters, filters, blocks, pool_size=pool, identity=bool(identity),
                     features=features, **gens)
    if not spectral: without_spectral_norm(model)
    if blind: blind_to_noise(model)
    stores = [store_of(vols[s], 'axial') for s in 'ab']
    if sampling: stores = [informative(s, seed) for s in stores]
    def loaders(stores): return unpaired_dataloaders(*stores, bs=bs, valid_pct=0, seed=seed)
    learn = cyclegan_learner(loaders([halved(s) for s in stores] if progressive else stores), model,
                             CycleGANLoss(identity=identity, adversarial=adversarial, **loss), *lr,
                             r1=r1)
    # half of the pixels are seen at half the resolution, in four times as many slices
    if progressive:
        train(learn, 2*n, lr, (0., .5))
        learn.dls = loaders(stores)
        train(learn, n//2, lr, (.5, 1.))
    else: train(learn, n, lr)
    return translator(learn.model)

def translator(model, planes=None):
    "A model as a method; with `planes` the mean of its results on slices of each of them"
    from neuroscope.utils import Translator
    ts = [Translator(model, planes=p) for p in planes or (model.meta.get('plane', 'axial'),)]
    return lambda vol, mask, d: np.mean([t.translate_normalized(vol, mask, d) for t in ts], 0)

def fast(data, seed, patients=TRAIN, names=(), blur=True, masks=False, **kwargs):
    "The fast preset before training: name -> method. Names, as far as wanted: without restoration, whole, in two planes"
    from neuroscope.trainers.presets import (degradations, fit_restoration, site_slices,
                                             start_generators)
    a,b = (site_slices(store_of(data[0][s][:patients], 'coronal',
                                labels=data[3][s][:patients] if masks else None)) for s in 'ab')
    gens = start_generators(a, b, seed, blur=blur, **kwargs)
    started = translator(coronal_cyclegan(copy.deepcopy(gens), seed))
    for g,y,d in zip(gens, (b[0],a[0]), degradations(gens, a[0], b[0])):
        fit_restoration(g, y, d, 600 if any(d.blur) else 300, seed=seed)
    restored = coronal_cyclegan(gens, seed)
    if blur and not kwargs:
        restored.save_model(
            data[2]/f"{'parts' if masks else 'fast'}{'' if patients==TRAIN else patients}_{seed}")
    return {
        k: v for k,v in zip(names, (started, translator(restored),
                                    translator(restored, ('coronal','sagittal')))) if k}

def coronal_cyclegan(gens, seed):
    "A model of two generators that work on coronal slices"
    from neuroscope.models.cyclegan import CycleGAN
    torch.manual_seed(seed)
    model = CycleGAN(generator_a2b=gens[0], generator_b2a=gens[1], discriminator_filters=8,
                     identity=False)
    model.meta['plane'] = 'coronal'
    return model

def fast_trained(data, seed, adversarial=0., n=60, blind=False, start='fast', free=True,
                 patients=TRAIN):
    "The fast preset, trained on from where `fast` ended, which is made here where nobody has yet; `free`: the tone maps too"
    from neuroscope.data.loaders import unpaired_dataloaders
    from neuroscope.models.loading import load_model
    from neuroscope.trainers.building import cyclegan_learner
    from neuroscope.trainers.losses import CycleGANLoss
    from neuroscope.trainers.presets import Restoration, degradations, site_slices
    stores = [store_of(data[0][s][:patients], 'coronal') for s in 'ab']
    if not (saved := data[2]/f'{start}_{seed}').exists():
        fast(data, seed, patients, masks=start.startswith('parts'))
    gens = load_model(saved).generators()
    for g in gens: g.tone_map.requires_grad_(free)
    degrade = degradations(gens, *(site_slices(s)[0] for s in stores))
    model = coronal_cyclegan(gens, seed).train()
    dls = unpaired_dataloaders(*stores, bs=4, valid_pct=0, seed=seed)
    if blind: blind_to_noise(model)
    train(cyclegan_learner(dls, model, CycleGANLoss(cycle=1., identity=0., adversarial=adversarial),
                           2e-4, 4e-4, r1=0., cbs=[Restoration(degrade, 10.)]), n, (2e-4,4e-4))
    return translator(model)

def mean_of_seeds(data):
    "The mean of what the restored models of all seeds say, in two planes"
    from neuroscope.models.loading import load_model
    each = [translator(load_model(f), ('coronal','sagittal'))
            for f in sorted(data[2].glob('fast_*'))]
    return lambda *x: np.mean([t(*x) for t in each], 0)

def baseline(name, patients=TRAIN):
    def f(data, seed):
        from neuroscope.evaluation import baselines as B
        m = dict(identity=B.Identity, histogram_matching=B.HistogramMatching, nyul=B.Nyul,
                 joint_tone_map=lambda: B.JointToneMapBaseline(seed=seed))[name]()
        pairs = [[(v, (v!=0).any(0)) for v in data[0][s][:patients]] for s in 'ab']
        return m.fit(*pairs).translate
    return f

def tone_map_by_part(data, seed, **kwargs):
    "The joint tone map, fitted to normal tissue and to each part of the lesion"
    from neuroscope.models.tone_map import fit_tone_maps
    from neuroscope.trainers.presets import sample_by_part
    clouds = (sample_by_part(data[0][s][:TRAIN], data[3][s][:TRAIN], [{1}, {2}, {3}], seed=seed+k)
              for k,s in enumerate('ab'))
    normal,*lesions = zip(*clouds)
    maps = dict(zip(('a2b','b2a'), fit_tone_maps(*normal, lesions=lesions, seed=seed, **kwargs)))
    return lambda vol, mask, d: maps[d].map_volume(vol, mask)

def with_(f, **kwargs): return lambda data, seed: f(data, seed, **kwargs)

BY_PART = {   # ways to train on from the fast preset by part of the lesion
    '': {}, 'with adversary .1': dict(adversarial=.1), 'with adversary .1 that is blind to noise': dict(adversarial=.1, blind=True), 'with adversary 1': dict(adversarial=1.),
    'five times as long with adversary .1': dict(adversarial=.1, n=300)}
TERMS = {     # terms and adversaries of `CycleGANLoss` beyond the document's
    'with joint intensity 1': dict(joint_intensity=1.), 'with joint intensity 10': dict(joint_intensity=10.), 'with joint intensity 10, without adversary': dict(joint_intensity=10., adversarial=0.),
    'with joint intensity 10, without identity': dict(joint_intensity=10., identity=0.),
    'with cycle SSIM 1': dict(cycle_ssim=1.), 'with feature matching 1': dict(feature_matching=1., features=True),
    **{f'{n} adversary': dict(gan=k) for n,k in (('hinge', 'hinge'), ('vanilla', 'vanilla'), ('relativistic', 'relativistic'), ('relativistic least-squares', 'relativistic_lsgan'))}}

RUNS = {   # names of the methods -> function that gives them
    ('identity',): baseline('identity'),
    ('histogram matching',): baseline('histogram_matching'),
    ('Nyúl',): baseline('nyul'),
    ('rescan',): lambda data, seed: rescan(data[1]),
    ('joint tone map',): baseline('joint_tone_map'),
    FAST: with_(fast, names=FAST),
    ('document, tone-map start',): with_(document),
    ('document',): with_(document, tone_map=False),
    ('document, higher rates',): with_(document, tone_map=False, lr=(1e-3,4e-3)),
    ('without adversary',): with_(document, adversarial=0.),
    ('without TTUR',): with_(document, lr=(1e-4,1e-4)),
    ('without R1',): with_(document, r1=0.),
    ('without pool',): with_(document, pool=0),
    ('without identity',): with_(document, identity=0.),
    ('without spectral norm',): with_(document, spectral=False),
    ('progressive resizing',): with_(document, progressive=True),
    ('informative sampling',): with_(document, sampling=True),
    ('fast, trained',): fast_trained,
    ('fast, trained with adversary .1',): with_(fast_trained, adversarial=.1),
    ('fast, trained with adversary .1 that is blind to noise',): with_(fast_trained, adversarial=.1, blind=True),
    ('fast, trained with adversary 1',): with_(fast_trained, adversarial=1.),
    ('fast, trained five times as long',): with_(fast_trained, n=300),
    ('fast, trained five times as long with adversary .1',): with_(fast_trained, adversarial=.1, n=300),
    ('without identity, adversary blind to noise',): with_(document, identity=0., blind=True),
    ('', 'fast, without tone map'): with_(fast, names=('', 'fast, without tone map'), lr=0.),
    ('', 'fast, without blur'): with_(fast, names=('', 'fast, without blur'), blur=False),
    ('joint tone map, by part of the lesion',): tone_map_by_part,
    ('joint tone map, by part of the lesion, which weighs four times as much',): with_(tone_map_by_part, lesion_weight=.2),
    ('', 'fast, by part of the lesion'): with_(fast, names=('', 'fast, by part of the lesion'), masks=True),
    ('', 'fast, by part of the lesion, which weighs four times as much'): with_(fast, names=('', 'fast, by part of the lesion, which weighs four times as much'), masks=True, lesion_weight=.2),
    ('by part, trained five times as long',): with_(fast_trained, n=300, start='parts'),
    ('by part, trained five times as long, tone maps fixed',): with_(fast_trained, n=300, start='parts', free=False),
    ('', 'fast, by part of the lesion, 12 patients'): with_(fast, patients=MORE, names=('', 'fast, by part of the lesion, 12 patients'), masks=True),
    **{(f'by part, trained {name}, tone maps fixed'.replace(' ,', ','),): with_(fast_trained, start='parts', free=False, **k) for name,k in BY_PART.items()},
    **{(f'by part, 12 patients, trained {name}'.strip(),): with_(fast_trained, start='parts12', patients=MORE, free=False, **k) for name,k in BY_PART.items() if 'blind' not in name and 'five' not in name},
    **{(name,): with_(document, **k) for name,k in TERMS.items()},
    ('joint tone map, 12 patients',): baseline('joint_tone_map', MORE),
    ('', 'fast, before training, 12 patients', 'fast, two planes, 12 patients'): with_(fast, patients=MORE, names=('', 'fast, before training, 12 patients', 'fast, two planes, 12 patients')),
}
MEAN = 'fast, two planes, mean of seeds'
CORE = {('identity',), ('histogram matching',), ('Nyúl',), ('rescan',), ('joint tone map',), FAST}
# what is run under each normalization
SCALED = ('identity','joint tone map','joint tone map, by part of the lesion',
          'fast, by part of the lesion','rescan')
UNSEEDED = ('identity','histogram matching','Nyúl','rescan')

def record(path, name, seed, seconds, rows, **more):
    "Append a finished run and say how it went"
    with open(path, 'a') as out:
        out.write(json.dumps(dict(method=name, seed=seed, **more, cpu_seconds=round(seconds, 1),
                                  rows=rows))+'\n')
        out.flush()
        os.fsync(out.fileno())
    t = pd.DataFrame(rows).groupby('direction')[['psnr','ssim']].mean()
    print(f'{name} (seed {seed}): '
          + '  '.join(f'{d} {r.psnr:.2f} / {r.ssim:.3f}' for d,r in t.iterrows())
          + f'  {seconds:.0f} s', flush=True)

def run(f, data, seed):
    "What a function of `RUNS` gives, and its seconds of processor time"
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    t = time.process_time()
    return f(data, seed),time.process_time()-t

def compare_normalizations(data, names, seeds, methods, path):
    "Some methods under several normalizations"
    for seed,name in ((s,n) for s in range(seeds) for n in names):
        there = {r['method'] for r in done(path) if (r['normalization'],r['seed'])==(name,seed)}
        wanted = {m: (k,f) for k,f in RUNS.items()
                  for m in k if m in methods and m not in there and not (seed and m in UNSEEDED)}
        if not wanted: continue
        _MAPS.clear()
        scaled = renormalized(data, name)
        for m,(k,f) in wanted.items():
            method,seconds = run(f, scaled, seed)
            record(path, m, seed, seconds,
                   judge(method[m] if isinstance(method, dict) else method, scaled[1]),
                   normalization=name)

def done(path):
    return [json.loads(l) for l in path.read_text().splitlines()] if path.exists() else []

def write_csv(runs, path):
    "A row a run, patient and direction"
    rows = [{k: v for k,v in r.items() if k!='rows'} | o for r in runs for o in r['rows']]
    pd.DataFrame(rows).round(dict(psnr=3, ssim=4, cpu_seconds=1, psnr_scaled=3, psnr_lesion=3,
                                  rim_t1ce=4, psnr_normal=3, rim_contrast=4,
                                  edema_contrast=4)).to_csv(path, index=False)
    print(f'{len(runs)} runs written to {path}')

def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--results', type=Path, default=RESULTS/'quality.jsonl',
                   help='a line for each finished run (benchmarks/results/quality.jsonl)')
    p.add_argument('--cache', type=Path, default=Path.home()/'.cache/neuroscope/quality',
                   help='where the simulated cohort is kept')
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--only', nargs='+', choices=[n for names in RUNS for n in names if n],
                   metavar='METHOD', help='these methods alone')
    p.add_argument(
        '--normalizations', nargs='*', choices=NORMALIZATIONS, metavar='NORMALIZATION',
        help='instead of the table of methods: a few methods under these '
             f'normalizations ({", ".join(NORMALIZATIONS)}), into ' 'quality.normalization.jsonl')
    p.add_argument(
        '--csv', action='store_true',
        help='write quality.csv beside the results, of what is there, and do nothing else')
    p.add_argument('--minutes', type=float, default=1e9, help='start no run after so many minutes')
    a = p.parse_args()
    if a.csv:
        return [write_csv(done(f), f.with_suffix('.csv'))
                for f in (a.results, a.results.with_suffix('.normalization.jsonl')) if f.exists()]
    torch.set_num_threads(1)
    start = time.perf_counter()
    data = cohort(a.cache)
    print(f'cohort ready after {time.process_time():.0f} s of processor time', flush=True)
    a.results.parent.mkdir(parents=True, exist_ok=True)
    if a.normalizations is not None:
        return compare_normalizations(data, a.normalizations or NORMALIZATIONS, a.seeds,
                                      a.only or SCALED,
                                      a.results.with_suffix('.normalization.jsonl'))
    # what matters most comes first, with all its seeds
    for group in (CORE, set(RUNS)-CORE):
        for seed,(names,f) in ((s,r) for s in range(a.seeds)
                               for r in RUNS.items() if r[0] in group):
            wanted = [n for n in names if n]
            if a.only and not set(a.only)&set(wanted) or seed and wanted[0] in UNSEEDED: continue
            if {(n,seed) for n in wanted} <= {(r['method'],r['seed']) for r in done(a.results)}:
                continue
            if time.perf_counter()-start>60*a.minutes: return
            methods,seconds = run(f, data, seed)
            for name,m in (methods if isinstance(methods, dict) else {wanted[0]: methods}).items():
                record(a.results, name, seed, seconds, judge(m, data[1]))
    if not a.only and (MEAN,0) not in {(r['method'],r['seed']) for r in done(a.results)}:
        record(a.results, MEAN, 0, 0., judge(mean_of_seeds(data), data[1]))

if __name__=='__main__': main()
